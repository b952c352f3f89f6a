/*
 * Footfall in the browser: counts this page and fills the block "Thống kê truy cập".
 *
 *   <script async src="https://host/footfall.js" data-site="portal"></script>
 *
 * The block is plain HTML of the page. Elements with data-count="today" or class="footfall-today" are
 * filled; <visitor-counts></visitor-counts> becomes a list of them. data-count="page_views" is filled with
 * the views of this page, or of the page in data-page="/tin/1". Attributes of the script line:
 *
 *   data-site="portal"       the site (or ?site=portal in src, for editors that strip data attributes)
 *   data-page="/tin/1"       what this page is called, whatever its address is; "off": it is no page
 *   data-beacon="off"        show the numbers, count nothing
 *   data-visitor="browser"   the site tells browsers apart by a random id in localStorage
 *   data-framed="on"         count this page in a frame too, where all pages around it are of the site
 *   data-route="search"      another query is a view too; "hash": another fragment; "off": only view() is
 *
 * For pages that know better: window.footfall.view("/tin/1") counts a view, and window.footfall.fill(root) fills
 * the elements in a shadow root.
 *
 * In class="footfall-digits" each digit of a number gets an element of its own, for a box around it.
 *
 * `make script` writes built/footfall.js, which is served: without comments, with short names, and in syntax that
 * Chrome 61 reads. The script checks for newer features before it uses them. It throws no error and adds no
 * style. Where the page may not count, the console has one line that says why.
 */
(() => {
  const script = document.currentScript || document.querySelector("[src*='footfall.js']");
  if (!script || !script.src) return;
  const option = name => script.getAttribute("data-" + name);
  // Relative to the script, so that a portal may serve Footfall below a path of its own.
  const address = path => new URL(path, script.src).href;
  const site = option("site") || new URL(script.src).searchParams.get("site");
  const running = Symbol.for("footfall");
  // Kept for the life of the page, because a router may run the script line again: what the console has, and the site.
  const warned = (window[running] = window[running] || new Set());
  const warn = sentence => {
    if (!warned.has(sentence)) console.warn("Footfall: " + sentence);
    warned.add(sentence);
  };
  if (!site) return warn("the script line has no data-site, so nothing is counted.");
  if (warned.site) return warned.site === site || warn(`${site} is not counted, because ${warned.site} is, on this page.`);
  warned.site = site;

  // Keys of the query that tell pages apart: the server writes those of its sites here, instead of this one.
  const pageQuery = ["page_query"];
  const query = "?site=" + encodeURIComponent(site);
  const savedKey = "footfall:" + site;

  const read = key => {
    try {
      return localStorage.getItem(key);
    } catch (storageBlocked) {
      return null;
    }
  };

  const write = (key, value) => {
    try {
      localStorage.setItem(key, value);
    } catch (storageBlockedOrFull) {}
  };

  /* ---- The block ---------------------------------------------------------------------------------- */

  const names = (
    "online today week total views_today page_views yesterday last_week month last_month year views_month views_total " +
    "peak_online"
  ).split(" ");
  const targets = name => `[data-count="${name}"],.footfall-${name}`;
  const anyNumber = names.map(targets).join();
  const anyTarget = "visitor-counts," + anyNumber;
  const roots = new Set([document]); // and the shadow roots that the page has named
  // No Array.from in this script: MooTools and Prototype, of many old portals, put one in its place that takes no sets.
  const all = selector => [].concat(...[...roots].map(root => [...root.querySelectorAll(selector)]));
  const ours = new WeakMap(); // our lists, and the numbers in them
  let words; // by language, those of the short form, which few pages have; they are read where there is one
  let shown = {};
  let page; // what the server was told that this page is
  let asked; // pages whose views were read since the last beacon or poll; none before the first one
  const pageViews = new Map();

  // The nearest lang decides ("vi-VN" is vi); a language without words gets the site's.
  const nearestLanguage = element => {
    const nearest = element.closest("[lang]");
    const known = nearest && /^[a-z]{2,3}\b/i.exec(nearest.getAttribute("lang"));
    return known ? known[0].toLowerCase() : "";
  };
  const siteLanguage = () => (/^[a-z]{2,3}$/.test(shown.language) ? shown.language : "vi");
  const wordsOf = language =>
    Object.assign({}, words[language], (shown.words || {})[language], language === siteLanguage() && shown.labels);

  // <visitor-counts> becomes a list in the page's own DOM, so that the page's style sheet applies.
  const fillShortForm = shortForm => {
    let list = shortForm.firstElementChild;
    const show = shortForm.getAttribute("data-show") || shown.show || names.slice(0, 4);
    const wanted = String(show).split(/\W+/).filter(name => names.includes(name));
    if (!list) {
      list = document.createElement("ul");
      ours.set(list, "");
      shortForm.textContent = "";
      shortForm.appendChild(list);
    }
    if (!ours.has(list)) return;
    if (ours.get(list) !== String(wanted)) {
      ours.set(list, String(wanted));
      list.textContent = "";
      wanted.forEach(name => {
        const figure = document.createElement("b");
        figure.setAttribute("data-count", name);
        list.appendChild(document.createElement("li")).append("", figure);
      });
    }
    const nearest = nearestLanguage(shortForm);
    const speaks = wordsOf(nearest).online;
    const language = speaks ? nearest : siteLanguage();
    const labels = wordsOf(language);
    const labelOf = name => shortForm.getAttribute("data-label-" + name) || labels[name];
    // Before the first answer the site's language is not known.
    if (speaks) list.removeAttribute("lang");
    else list.lang = language;
    list.setAttribute("aria-label", labelOf("heading"));
    list.querySelectorAll("b").forEach(figure => {
      figure.previousSibling.data = labelOf(figure.getAttribute("data-count")) + ": ";
    });
  };

  // An unchanged figure is not written: frameworks, screen readers and observers would notice the write.
  const fillNumber = (element, figure) => {
    const before = element.textContent;
    const known = typeof figure === "number";
    const written = known ? figure.toLocaleString(nearestLanguage(element) || siteLanguage()) : before.trim() || "–";
    const inBoxes = known && element.closest(".footfall-digits");
    const text = inBoxes ? String(figure).padStart(6, 0) : written;
    if (text === before) return;
    element.textContent = inBoxes ? "" : text;
    if (!inBoxes) return;
    // The boxes are a picture of the number, which a screen reader speaks as one.
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", written);
    [...text].forEach(digit => {
      element.appendChild(document.createElement("span")).textContent = digit;
    });
  };

  const pageFor = element => element.getAttribute("data-page") || page;
  const numberFor = (name, element) => (name === "page_views" ? pageViews.get(pageFor(element)) : shown[name]);

  const readWords = async () => {
    if (words === 0 || blocked) return;
    words = 0;
    try {
      words = (await ask("footfall-words.json"))[1];
      if (words) paint();
    } catch (untilTheNextPaint) {
      words = undefined;
    }
  };

  const paint = () => {
    try {
      const shortForms = all("visitor-counts");
      if (words) shortForms.forEach(fillShortForm);
      else if (shortForms.length) readWords();
      all(anyNumber).forEach(element => {
        const name = names.find(name => element.matches(targets(name)));
        fillNumber(element, numberFor(name, element));
      });
      roots.forEach(root => root.isConnected || roots.delete(root));
      readPages();
    } catch (takenApartByThePage) {}
  };

  const period = counts => [counts.day_of, counts.week_of, counts.revision, counts.measure].join();

  // One worker's counts may be a little older than another's. Within one period no number falls for that.
  // An older answer from another period is ignored, unless it is a day older: then a clock was wrong.
  const accept = answer => {
    const same = period(answer) === period(shown);
    const ahead_ms = new Date(answer.as_of || NaN) - new Date(shown.as_of || NaN); // null would be 1970
    const older = ahead_ms < 0;
    if (shown.as_of && !same && !(ahead_ms >= 0 || ahead_ms < -864e5)) return;
    const merged = Object.assign({}, older && same ? shown : answer);
    names.forEach(name => {
      const last = shown[name];
      const number = answer[name];
      const keep = same && (name === "online" ? older : last > number);
      merged[name] = keep || typeof number !== "number" ? last : number;
    });
    shown = merged;
  };

  // Another page of the site may have shown newer numbers than this one.
  const acceptSaved = () => {
    try {
      accept(JSON.parse(read(savedKey)));
    } catch (nothingSaved) {}
  };

  const acceptPages = answer =>
    Object.entries(answer.pages || {}).forEach(([name, number]) => {
      if (number && number.views >= (pageViews.get(name) || 0)) pageViews.set(name, number.views);
    });

  // A list is read when it is whole, in as few requests as the server takes: 50 pages, and 8 KB of address.
  const readPages = () => {
    if (!asked || document.readyState === "loading") return;
    const reads = [];
    let number = 0;
    all(targets("page_views")).forEach(element => {
      const name = pageFor(element);
      if (asked.has(name)) return;
      asked.add(name);
      if (number++ % 50 === 0 || reads[0].length > 5e3) reads.unshift("counts" + query);
      reads[0] += "&page=" + encodeURIComponent(name);
    });
    reads.forEach(async what => {
      try {
        acceptPages((await ask(what))[1]);
        paint();
      } catch (untilTheNextPoll) {}
    });
  };

  /* ---- Beacons ------------------------------------------------------------------------------------ */

  let place; // the page's address when the script last looked
  let due = []; // views to send, oldest first
  let sent; // the view in the current request
  let giveUp; // the first view that is due may have been counted: the service knows its id until then, and longer
  let busy; // a request is running
  let timer; // starts the next request
  let next = 0; // time of the next request; timers stop while a phone or laptop sleeps
  let began; // time of the current request, or of the last one
  let held; // the server asked to wait until then (Retry-After)
  let failures = 0; // failed requests in a row
  let refused; // the server refuses beacons of this page
  let blocked; // the page's connect-src forbids requests

  const inFrame = self !== top;

  // The origins of the pages around this one, nearest first; "" for one that the browser hides.
  const originsAround = () => {
    const origins = [...(location.ancestorOrigins || [])];
    if (origins.length) return origins;
    for (let around = self; around !== top; ) {
      around = around.parent;
      try {
        origins.push(around.location.origin);
      } catch (ofAnotherOrigin) {
        origins.push("");
      }
    }
    return origins;
  };

  const mayCount = () =>
    !refused &&
    option("beacon") !== "off" &&
    (!inFrame || option("framed") === "on") &&
    !navigator.globalPrivacyControl &&
    read("footfall") !== "off";

  const randomId = bytes =>
    [...crypto.getRandomValues(new Uint8Array(bytes))].map(byte => (byte + 256).toString(16).slice(1)).join("");

  // The id is read back: where storage fails, a new id on every page would be a new visitor every time.
  const visitor = () => {
    const key = "footfall-visitor";
    if (option("visitor") !== "browser" || shown.visitor_id === "network") return;
    if (!read(key)) write(key, randomId(16));
    return read(key) || undefined;
  };

  // Returns the answer and its counts; rejects after 20 seconds.
  const ask = async (what, body) => {
    const limit = window.AbortController && new AbortController();
    const deadline = setTimeout(() => limit && limit.abort(), 2e4);
    try {
      const response = await fetch(address(what), {
        method: body ? "POST" : "GET",
        body,
        signal: limit && limit.signal,
        keepalive: true,
        credentials: "omit",
        referrerPolicy: "origin",
      });
      return [response, response.ok && (await response.json())];
    } finally {
      clearTimeout(deadline);
    }
  };

  const sendBeacon = () =>
    ask(
      "seen",
      JSON.stringify(
        Object.assign(
          {
            site,
            visitor: visitor(),
            webdriver: navigator.webdriver || undefined,
            frames: (inFrame && originsAround()) || undefined,
          },
          sent || { page, kind: "ping" }
        )
      )
    );

  // A view returns to the queue; where it may have been counted, as one that the service must look up.
  const sendLater = uncertain => {
    if (!sent) return;
    if (uncertain) {
      giveUp = giveUp || began + 6e4;
      sent.again = true;
    }
    due.unshift(sent);
    sent = 0;
  };

  const sendImage = view => {
    const image = new Image();
    image.referrerPolicy = "origin";
    // The id makes each address another one: a document loads one image address only once, even with no-store.
    image.src = address("seen.gif" + query + "&page=" + encodeURIComponent(view.page) + "&view=" + view.view);
  };

  const wait = seconds => {
    const delay_ms = 1000 * (Math.max(1, Math.min(seconds, 3600)) || 60);
    clearTimeout(timer);
    next = Date.now() + delay_ms;
    timer = setTimeout(beat, delay_ms);
  };

  // The loop: sends a view if one is due, else a ping; a page that does not count reads the numbers.
  const beat = async () => {
    if (busy) return;
    next = held = 0;
    began = Date.now();
    // Beyond the time for which the service surely knows the id, a ping follows, which cannot add a view.
    if (giveUp && giveUp < began) {
      due.shift();
      giveUp = 0;
    }
    // A view without an answer was seen, whatever tab is in front now.
    if ((document.hidden && !giveUp) || document.prerendering) return;
    const counting = mayCount();
    if (blocked || !window.fetch) {
      // The image could not say which pages are around this one.
      if (counting && !inFrame) due.forEach(sendImage);
      due = [];
      giveUp = 0;
      return;
    }
    if (!counting && !all(anyTarget).length) return wait(shown.poll_after_s);

    busy = true;
    sent = counting && due.shift();
    let seconds = 0;
    let failed = true;
    try {
      const [response, answer] = await (counting ? sendBeacon() : ask("counts" + query));
      const status = response.status;
      if (status === 429 || (status > 501 && status < 505)) {
        seconds = +response.headers.get("Retry-After") || 0;
        held = true;
        // The service refuses with a time; a proxy's error leaves open what became of the view.
        sendLater(status !== 429 && !(status === 503 && seconds));
      } else if (response.ok) {
        // A random part sooner than asked: pages opened together must not ask together for ever.
        seconds = (counting ? answer.ping_after_s : answer.poll_after_s) * (1 - Math.random() / 5);
        acceptSaved();
        accept(answer);
        write(savedKey, JSON.stringify(shown));
        acceptPages(answer);
        asked = new Set(["off"].concat(counting ? page : []));
        paint();
        failed = false;
      } else if (status < 500 && status !== 408) {
        refused = true;
        const mend = status === 403 ? "add its host to hosts in the settings of the site" : "correct data-site";
        warn(`${location.origin} is not counted for ${site} (${status}): ${mend}.`);
      }
      if (!held) sent = giveUp = 0;
    } catch (noAnswer) {
      sendLater(true);
    }
    busy = false;
    failures = failed ? failures + 1 : 0;
    if (failed) seconds = Math.max(seconds, 2 ** Math.min(failures, 6)) * (1 + Math.random() / 2);
    if (blocked || (counting && due.length && !failed)) beat();
    else wait(seconds);
  };

  const routing = option("route");
  const addressOf = url => {
    const kept = url.search.slice(1).split("&").filter(pair => pageQuery.includes(pair.split("=")[0]));
    const fragment = routing === "hash" ? url.hash.replace(/^#[!/]*/, "/") : "";
    return url.pathname.replace(fragment && /\/$/, "") + fragment + (kept.length ? "?" + kept.join("&") : "");
  };
  const placeNow = () => addressOf(location) + (routing === "search" ? location.search : "");

  const bare = host => host.replace(/^www\./, "");
  const canonical = () => {
    try {
      const link = new URL(document.querySelector("link[rel~=canonical]").href);
      return bare(link.host) === bare(location.host) && addressOf(link);
    } catch (noLink) {}
  };

  // The canonical link is of the address that was loaded: routers change it late, if at all.
  let loaded;
  const countView = name => {
    place = placeNow();
    loaded = loaded || [place, canonical()];
    page = String(name || option("page") || (place === loaded[0] && loaded[1]) || addressOf(location));
    if (page.length > 2048) page = "off"; // a cut one would be another page
    if (due.length < 9) due.push({ page, kind: "view", view: randomId(8) });
    if (!held) beat();
  };

  // After a moment: a page from the back/forward cache becomes visible just before its pageshow event.
  const wake = () =>
    setTimeout(() => {
      if (Date.now() >= next) beat();
    });

  /* ---- What happens to the page ------------------------------------------------------------------- */

  document.addEventListener("visibilitychange", wake);
  document.addEventListener("prerenderingchange", wake);
  addEventListener("focus", wake);
  addEventListener("online", () => {
    if (!held) beat();
  });

  // A page from the back/forward cache is another view; other pages may have saved newer numbers.
  addEventListener("pageshow", event => {
    if (!event.persisted) return;
    acceptSaved();
    paint();
    countView();
  });

  // Where connect-src forbids the service, img-src may allow it: the failed view is sent as an image.
  document.addEventListener("securitypolicyviolation", event => {
    const origin = new URL(script.src).origin;
    const own = event.effectiveDirective === "connect-src" && event.blockedURI.indexOf(origin) === 0;
    if (/-words/.test(event.blockedURI)) return; // a policy may allow single paths, and counting needs no words
    if (!own || event.disposition === "report" || !(busy || failures)) return;
    blocked = true;
    warn(`no numbers, because the page's Content-Security-Policy forbids it: add ${origin} to connect-src.`);
    sendLater();
    beat();
  });

  // A page may change its path without loading: a new path is a view. replaceState is no view, because
  // routers use it to tidy the address of a page that was counted already.
  const moved = () => {
    if (place && routing !== "off" && placeNow() !== place) countView();
  };
  const tidied = () => {
    place = place && placeNow();
  };
  // A router may replace the state while it handles popstate, so a move is noticed before the replacement.
  const follow = (name, then) => {
    try {
      const original = history[name];
      history[name] = function () {
        moved();
        const result = original.apply(this, arguments);
        then();
        return result;
      };
    } catch (frozenByThePage) {}
  };
  if (window.navigation) {
    navigation.addEventListener("currententrychange", event => {
      (event.navigationType === "replace" ? tidied : moved)();
    });
  } else {
    addEventListener("popstate", moved);
    follow("pushState", moved);
    follow("replaceState", tidied);
  }

  // A page may add its block after the numbers have arrived. A router that kept pushState from before this script
  // came is noticed by what it adds to the page.
  let painting;
  const hasTarget = node => node.nodeType === 1 && (node.matches(anyTarget) || node.querySelector(anyTarget));
  new MutationObserver(changes => {
    if (!window.navigation) moved();
    if (painting || !changes.some(change => [...change.addedNodes].some(hasTarget))) return;
    painting = setTimeout(() => {
      painting = 0;
      paint();
    }, 100);
  }).observe(document, { childList: true, subtree: true });

  window.footfall = {
    view: countView,
    fill: root => {
      roots.add(root);
      paint();
    },
  };

  acceptSaved();
  paint();
  document.addEventListener("DOMContentLoaded", paint);
  // Before there is a body, the canonical link may still be on its way.
  if (document.body) countView();
  else document.addEventListener("DOMContentLoaded", () => countView());
})();
