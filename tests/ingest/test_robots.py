"""Who is taken for a robot, and above all who is not."""
# ruff: noqa: E501 (a user agent is one line)

import time

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import given
from hypothesis import strategies as st

from footfall.ingest.robots import CORRECTIONS, REMEMBERED_MAX, Robots, plain_word

ROBOTS = Robots()

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
WEBVIEW = "AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/142.0.7444.102 Mobile Safari/537.36"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    "user_agent",
    [
        pytest.param(f"{WINDOWS} Chrome/142.0.0.0 Safari/537.36", id="Chrome"),
        pytest.param(f"{WINDOWS} Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0", id="Edge"),
        pytest.param(f"{WINDOWS} coc_coc_browser/142.0.154 Chrome/136.0.7103.154 Safari/537.36", id="Cốc Cốc"),
        pytest.param(f"{WINDOWS} Chrome/134.0.0.0 Safari/537.36 OPR/119.0.0.0", id="Opera"),
        pytest.param(f"{WINDOWS} Chrome/118.0.5993.159 Electron/27.3.11 Safari/537.36 ZaloPC-win32-24v643", id="Zalo on Windows"),
        pytest.param("Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko", id="Internet Explorer"),
        pytest.param("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0", id="Firefox"),
        pytest.param("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", id="Firefox on Linux"),
        pytest.param("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", id="a Chromebook"),
        pytest.param("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15", id="Safari"),
        pytest.param(f"{IPHONE} Version/18.6 Mobile/15E148 Safari/604.1", id="Safari on an iPhone"),
        pytest.param(f"{IPHONE} CriOS/142.0.7444.77 Mobile/15E148 Safari/604.1", id="Chrome on an iPhone"),
        pytest.param(f"{IPHONE} GSA/391.0.123456789 Mobile/15E148 Safari/604.1", id="Google on an iPhone"),
        pytest.param(f"{IPHONE} Mobile/15E148 Zalo iOS/24110001 ZaloTheme/light ZaloLanguage/vn", id="Zalo on an iPhone"),
        pytest.param(f"{IPHONE} Mobile/22G86 [FBAN/FBIOS;FBAV/535.0.0.42.98;FBBV/812345678;FBDV/iPhone15,3;FBMD/iPhone;FBSN/iOS;FBSV/18.6;FBSS/3;FBID/phone;FBLC/vi_VN;FBOP/5;FBRV/814000000]", id="Facebook on an iPhone"),
        pytest.param(f"{IPHONE} Mobile/22G100 Safari/604.1 MetaIAB Facebook", id="Facebook's newer browser"),
        pytest.param(f"{IPHONE} Mobile/22G86 Instagram 393.1.0.36.70 (iPhone15,3; iOS 18_6; vi_VN; vi; scale=3.00; 1290x2796; IABMV/1; 776538208) Safari/604.1", id="Instagram"),
        pytest.param(f"{IPHONE} Mobile/15E148 musical_ly_41.0.0 JsSdk/2.0 NetType/WIFI Channel/App Store ByteLocale/vi Region/VN BytedanceWebview/d8a21c6", id="TikTok"),
        pytest.param(f"{IPHONE} Mobile/15E148 Safari Line/14.9.0", id="LINE"),
        pytest.param(f"{IPHONE} Mobile/15E148 MicroMessenger/8.0.57(0x18003930) NetType/WIFI Language/vi", id="WeChat"),
        pytest.param(f"{ANDROID} Chrome/142.0.0.0 Mobile Safari/537.36", id="Chrome on Android"),
        pytest.param(f"{ANDROID} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36", id="Samsung"),
        pytest.param(f"{ANDROID} coc_coc_browser/142.0.154 Chrome/136.0.0.0 Mobile Safari/537.36", id="Cốc Cốc on Android"),
        pytest.param("Mozilla/5.0 (Linux; U; Android 14; vi-VN; CPH2591 Build/UKQ1.230924.001) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/123.0.6312.80 UCBrowser/14.5.0.1370 Mobile Safari/537.36", id="UC"),
        pytest.param("Mozilla/5.0 (Linux; U; Android 14; vi-vn; 23129RA5FL Build/UKQ1.231003.002) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/112.0.5615.136 Mobile Safari/537.36 XiaoMi/MiuiBrowser/14.22.1-gn", id="Xiaomi"),
        pytest.param("Mozilla/5.0 (Linux; U; Android 15; vi-vn; CPH2641 Build/AP3A.240617.008) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/115.0.5790.168 Mobile Safari/537.36 HeyTapBrowser/45.10.4.1", id="OPPO"),
        pytest.param("Mozilla/5.0 (Linux; Android 14; V2333; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/123.0.6312.118 Mobile Safari/537.36 VivoBrowser/14.0.0.2", id="vivo"),
        pytest.param("Mozilla/5.0 (Android 14; Mobile; rv:145.0) Gecko/145.0 Firefox/145.0", id="Firefox on Android"),
        pytest.param("Opera/9.80 (Android; Opera Mini/88.0.2254/191.361; U; vi) Presto/2.12.423 Version/12.16", id="Opera Mini"),
        pytest.param("Mozilla/5.0 (Mobile; Nokia 8110 4G; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5", id="KaiOS"),
        pytest.param(f"Mozilla/5.0 (Linux; Android 15; CPH2641 Build/AP3A.240617.008; wv) {WEBVIEW} [FB_IAB/FB4A;FBAV/535.0.0.49.71;IABMV/1;]", id="Facebook on Android 15"),
        pytest.param(f"Mozilla/5.0 (Linux; Android 16; SM-S938B Build/BP2A.250605.031; wv) {WEBVIEW} MetaIAB Facebook", id="Facebook on Android 16"),
        pytest.param(f"Mozilla/5.0 (Linux; Android 14; SM-A546E Build/UP1A.231005.007; wv) {WEBVIEW} [FB_IAB/Orca-Android;FBAV/480.0.0.0.99;]", id="Messenger"),
        pytest.param(f"Mozilla/5.0 (Linux; Android 14; SM-A546E Build/UP1A.231005.007; wv) {WEBVIEW} Zalo android/12100747 ZaloTheme/light ZaloLanguage/vi", id="Zalo"),
        pytest.param(f"Mozilla/5.0 (Linux; Android 13; 2201117TG; wv) {WEBVIEW} Viber/24.3.2.0", id="Viber's browser"),
        pytest.param(f"Mozilla/5.0 (Linux; Android 13; Nokia G21; wv) {WEBVIEW} Tumblr/34.5.0.110", id="Tumblr's browser"),
        pytest.param(f"Mozilla/5.0 (Linux; Android 12; CUBOT NOTE 30 Build/SP1A.210812.016; wv) {WEBVIEW}", id="a CUBOT telephone"),
        pytest.param(f"Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) {WEBVIEW}", id="another CUBOT"),
        pytest.param("Mozilla/5.0 (SMART-TV; LINUX; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) 94.0.4606.31/7.0 TV Safari/537.36", id="a television"),
        pytest.param("Mozilla/5.0 (PlayStation; PlayStation 5/9.60) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.4 Safari/605.1.15", id="a PlayStation"),
        pytest.param("Mozilla/5.0 (Linux; Android 13; Spider 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36", id="a telephone called Spider"),
        pytest.param("Mozilla/5.0 (Linux; Android 8.1.0; Fever_Plus_J) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/95.0.4638.50 Safari/537.36", id="one called Fever"),
        pytest.param("Mozilla/5.0 (Linux; Android 8.0.0; Expanse) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/86.0.4240.99 Mobile Safari/537.36", id="one called Expanse"),
        pytest.param("Mozilla/5.0 (Linux; Android 4.2.2; HTC Butterfly Build/JDQ39) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/31.0.1650.59 Mobile Safari/537.36", id="one called Butterfly"),
        pytest.param("Mozilla/5.0 (Linux; Android 4.4.2; ViewSonic V500 Build/KVT49L) AppleWebKit/535.19 (KHTML, like Gecko) Chrome/18.0.1025.166 Mobile Safari/535.19", id="a ViewSonic"),
        pytest.param("Mozilla/5.0 (Linux; Android 14; Crawler (4) Scanner/8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36", id="one with every word in its name"),
        pytest.param("DESAY TS1008/1.0 Release/07.12.2013 Mozilla/5.0 (Linux; U; Android 4.0.3; zh-cn) AppleWebKit/534.30 (KHTML, like Gecko) Version/4.0 Mobile Safari/534.30", id="a model that ends with 008"),
        pytest.param("Mozilla/5.0 (Macintosh; U; Intel Mac OS X 10_5_6; en-us) AppleWebKit/528.16 (KHTML, like Gecko) Fluid/0.9.6 Safari/528.16", id="Fluid"),
        pytest.param("Mozilla/5.0 (Linux; Android 11; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/108.4.6 like Chrome/108.0.5359.220 Safari/537.36", id="Amazon Silk"),
    ],
)  # fmt: skip
def test_people_are_not_robots(user_agent: str) -> None:
    """One word too many in the list and a whole make of telephones would be missing from the numbers."""
    assert not ROBOTS.is_robot(user_agent)


@pytest.mark.parametrize(
    "user_agent",
    [
        pytest.param("", id="empty"),
        pytest.param("  \t", id="white space"),
        pytest.param("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", id="Googlebot"),
        pytest.param("Mozilla/5.0 (compatible; coccocbot-web/1.0; +http://help.coccoc.com/searchengine)", id="Cốc Cốc's"),
        pytest.param("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", id="Facebook's"),
        pytest.param("Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)", id="Sogou's"),
        pytest.param("Viber", id="Viber's preview"),
        pytest.param("Tumblr/14.0.835.186", id="Tumblr's preview"),
        pytest.param(f"{WINDOWS} HeadlessChrome/142.0.0.0 Safari/537.36", id="headless Chrome"),
        pytest.param(f"{ANDROID} Chrome/142.0.0.0 Mobile Safari/537.36 (compatible; AdsBot-Google-Mobile)", id="AdsBot"),
        pytest.param("Mozilla/5.0 (Linux; Android 7.0; Moto G (4)) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/98.0.4695.0 Mobile Safari/537.36 Chrome-Lighthouse", id="Lighthouse"),
        pytest.param("curl/8.10.1", id="curl"),
        pytest.param("Wget/1.24.5", id="wget"),
        pytest.param("python-requests/2.32.3", id="requests"),
        pytest.param("Python/3.11 aiohttp/3.14.5", id="aiohttp"),
        pytest.param("Go-http-client/2.0", id="Go"),
        pytest.param("okhttp/4.12.0", id="okhttp"),
        pytest.param("Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", id="a monitor"),
        pytest.param("Blackbox Exporter/0.25.0", id="another monitor"),
        pytest.param(f"{WINDOWS} Chrome/109.0.0.0 Safari/537.36 CloudflareObservatory/1.0", id="Cloudflare's measurements"),
        pytest.param(f"{WINDOWS} TagInspector/500.1 Chrome/90.0.4430.72 Safari/537.36", id="TagInspector"),
        pytest.param("DynatraceSynthetic/1.179", id="Dynatrace"),
        pytest.param(f"{WINDOWS} Chrome/114.0.5735.198 Safari/537.36 DynatraceSynthetic/1.2", id="Dynatrace's browser"),
        pytest.param("Datadog/Synthetics", id="Datadog"),
        pytest.param(f"{WINDOWS} Chrome/114.0.5735.198 Safari/537.36 DatadogSynthetics", id="Datadog's browser"),
        pytest.param("ELB-HealthChecker/2.0", id="a balancer of Amazon"),
        pytest.param("kube-probe/1.31", id="Kubernetes"),
        pytest.param("GoogleHC/1.0", id="a balancer of Google"),
        pytest.param("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko; Google-Sites-Thumbnails) Chrome/120.0.6099.71 Safari/537.36", id="Google's thumbnails"),
        pytest.param("brand-new-check/1.0", id="not listed, only a name"),
        pytest.param("Mozilla/5.0 (compatible; BrandNew/0.1)", id="not listed, no browser"),
        pytest.param(f"{ANDROID} Chrome/142.0.0.0 Mobile Safari/537.36 (compatible; brandnewspider)", id="not listed, on a telephone"),
        pytest.param("Mozilla/5.0 (compatible; brandnewbot/0.1)", id="not listed, a bot"),
        pytest.param("SomeCrawler (+https://nobody.example)", id="not listed, with an address"),
    ],
)  # fmt: skip
def test_robots_are_robots(user_agent: str) -> None:
    """Robots and monitors are in a metric, and in none of the numbers."""
    assert ROBOTS.is_robot(user_agent)


def test_every_robot_that_the_list_shows_is_found() -> None:
    """The trie must find what the list's own expressions find; only the corrected patterns may differ."""
    missed = [
        example
        for entry in CRAWLER_USER_AGENTS_DATA
        if CORRECTIONS.get(entry["pattern"], "") is not None
        for example in entry["instances"]
        if not ROBOTS.is_robot(example)
    ]
    assert missed == []


def test_every_correction_corrects_a_pattern_of_the_list() -> None:
    """When the list changes such a pattern itself, the correction must be removed or adapted."""
    assert CORRECTIONS.keys() <= {entry["pattern"] for entry in CRAWLER_USER_AGENTS_DATA}


def test_only_the_first_512_characters_are_read() -> None:
    """A long user agent costs no more than a normal one, and cannot fill the memory of answers."""
    browser = f"{WINDOWS} Chrome/142.0.0.0 Safari/537.36 ".ljust(512, "x")
    assert ROBOTS.is_robot(browser[:504] + "Scrapy")
    assert not ROBOTS.is_robot(browser + "Scrapy")


@pytest.mark.parametrize(
    "unit", ["x", "Spider", "ContextualBot ", "Current", "HeadlessChrom", "BlogTraffic/1.", "(Android", "(Android ("]
)
def test_a_hostile_user_agent_is_judged_quickly(unit: str) -> None:
    """Expressions that look far ahead must not let 8 KB of text hold up a worker."""
    robots = Robots()
    user_agents = [f"{number}{unit * (8192 // len(unit))}" for number in range(20)]
    started = time.process_time()
    for user_agent in user_agents:
        robots.is_robot(user_agent)
    assert (time.process_time() - started) / len(user_agents) < 0.005


def test_remembered_user_agents_are_bounded() -> None:
    """A client can invent any number of them."""
    robots = Robots(["bot"])
    for number in range(REMEMBERED_MAX + 100):
        robots.is_robot(f"made up {number}")
    assert robots._is_listed_cached.cache_info().currsize == REMEMBERED_MAX  # noqa: SLF001


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        pytest.param(r"yandex\.com\/bots", "yandex.com/bots", id="escaped marks"),
        pytest.param("Let's Encrypt", "Let's Encrypt", id="a space and a quote"),
        pytest.param(r"a\\b", r"a\b", id="a backslash"),
        pytest.param("^curl", None, id="an anchor"),
        pytest.param(r"bot\d", None, id="a class"),
        pytest.param("(a|b)", None, id="a choice"),
    ],
)
def test_a_pattern_is_a_word_only_if_it_finds_nothing_else(pattern: str, word: str | None) -> None:
    """What is wrongly taken for a word would never be found."""
    assert plain_word(pattern) == word


@given(st.lists(st.text("ab.+(", min_size=1, max_size=4), min_size=1, max_size=6), st.text("ab.+( ", max_size=12))
def test_the_trie_finds_what_looking_for_each_word_finds(words: list[str], user_agent: str) -> None:
    """Words that begin alike, contain each other or hold special characters are where a trie can be wrong."""
    patterns = ["".join(f"\\{c}" if c in ".+(" else c for c in word) for word in words]
    found = Robots(patterns).is_robot(user_agent)
    assert found == (not user_agent.strip() or any(word in user_agent for word in words))
