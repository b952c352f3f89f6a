"""The numbers of a site as Postgres alone can give them, shown while Redis has not answered yet."""

from footfall.model.counts import Reading
from footfall.model.periods import period_at
from footfall.model.retention import Retention
from footfall.model.sums import spans_of
from footfall.settings.settings import Site
from footfall.stores.postgres_store import PostgresStore


async def read_saved_counts(postgres: PostgresStore, site: Site, at_s: float) -> Reading:
    """Read what Postgres has: neither who is online nor the union of the week. Raises StoreUnavailable."""
    period, retention = period_at(at_s, site.zone), Retention.at(at_s, site.zone)
    days, closed = await postgres.open_days(site.id, retention)
    today = [state for state in days if state.day == period.day]
    still_open = [state for state in days if state.day > retention.closed_through]
    others = [(state.day, state.visitors, state.views) for state in still_open if state.day != period.day]
    return Reading(
        day_of=period.day,
        week_of=period.week,
        online=None,
        today_visitors=sum(state.visitors for state in today),
        today_views=sum(state.views for state in today),
        week_visitors=None,
        week_views=sum(state.views for state in days if state.day >= period.week),
        total_visitors=closed.visitors + sum(state.visitors for state in still_open),
        total_views=closed.views + sum(state.views for state in still_open),
        adjustments=closed.adjustments,
        revision=closed.revision,
        at_ms=closed.read_at_us // 1000,
        spans=spans_of(period.day, closed.sums, others, 0) if closed.sums else None,
        peak=closed.peak,
    )
