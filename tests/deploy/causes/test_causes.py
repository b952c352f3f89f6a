"""Each alert has a story that causes it."""

from tests.deploy.causes.causes import STORIES
from tests.deploy.causes.rules import TIMES, faster
from tests.deploy.test_alerts import NAMES
from tests.support.project import PROJECT


def test_every_alert_is_caused() -> None:
    """An alert that nothing has ever fired may name another cause than the one that a person then looks for."""
    assert set(STORIES) == set(NAMES)


def test_no_time_of_the_rules_stays_as_long_as_it_was() -> None:
    """A story that waits for a real hour ends before its alert, and would be believed to be quiet."""
    rules = (PROJECT / "deploy" / "prometheus-alerts.yaml").read_text("utf-8")
    text = faster(rules)
    assert len(TIMES.findall(rules)) == text.count("ms") - rules.count("ms")
    assert "> 30\n" in text
    assert "> 3600\n" in text
