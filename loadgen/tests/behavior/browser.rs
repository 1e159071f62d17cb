//! The page in headless Chromium, controlled by the Chrome DevTools Protocol over a pipe (JSON
//! messages, each ended by a zero byte).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::plan::Plan;
use loadgen::report::{self, html};
use loadgen::result::Stored;
use serde_json::{Value, json};

use crate::report::hostile;
use crate::support::tools::{is_installed, require, skip_without};
use crate::support::{DEADLINE, Directory, constant, embedded, plan, run};

/// Names under which Chromium may be installed.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one page.
struct Browser {
    child: Child,
    requests: Option<ChildStdin>,
    messages: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    /// Events that no caller waited for.
    events: Vec<Value>,
    _profile: Directory,
}

impl Browser {
    /// Starts a browser, if one is installed.
    fn start() -> Option<Self> {
        let name = NAMES.into_iter().find(|name| is_installed(name))?;
        let profile = Directory::new("chromium");
        // The protocol is on the descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null",
                "sh",
                name,
            ])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--remote-debugging-pipe",
            ])
            .arg(format!(
                "--user-data-dir={}",
                profile.path("profile").display()
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap();
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            requests,
            messages,
            session: None,
            last_id: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let target = &target["targetId"];
        let session = browser.ask(
            "Target.attachToTarget",
            json!({"targetId": target, "flatten": true}),
        );
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "DOM"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Sends a request and returns the response.
    #[track_caller]
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut request = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            request["sessionId"] = session.as_str().into();
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        self.requests.as_mut().unwrap().write_all(&bytes).unwrap();
        let mut answer = self.wait_for(method, |message| message["id"] == id);
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }

    /// Waits for a message, and keeps other messages that arrive meanwhile.
    #[track_caller]
    fn wait_for(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self
                .messages
                .recv_timeout(left)
                .unwrap_or_else(|error| panic!("no answer to {what}: {error}"));
            if is_it(&message) {
                return message;
            }
            self.events.push(message);
        }
    }

    #[track_caller]
    fn open(&mut self, path: &Path) {
        let url = format!("file://{}", path.display());
        let before = self.events.len();
        self.ask("Page.navigate", json!({"url": url}));
        let is_loaded = |message: &Value| message["method"] == "Page.loadEventFired";
        // The event may have arrived before the response.
        if !self.events[before..].iter().any(is_loaded) {
            let loaded = self.wait_for("loading", is_loaded);
            self.events.push(loaded);
        }
    }

    /// The value of an expression in the page.
    #[track_caller]
    fn evaluate(&mut self, expression: &str) -> Value {
        let mut answer = self.ask(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true}),
        );
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    #[track_caller]
    fn wait_until(&mut self, condition: &str) {
        let deadline = Instant::now() + DEADLINE;
        while self.evaluate(condition) != true {
            assert!(
                Instant::now() < deadline,
                "waited in vain until {condition}"
            );
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn resize(&mut self, width: u32) {
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false}),
        );
        self.wait_until(&format!("innerWidth === {width}"));
    }

    /// Moves the pointer until the page shows that it noticed. A delayed scroll event removes the
    /// tooltip.
    #[track_caller]
    fn point_at(&mut self, place: &Value, condition: &str) {
        let deadline = Instant::now() + DEADLINE;
        let is_shown = format!("!{TIP}.hidden && {condition}");
        while self.evaluate(&is_shown) != true {
            assert!(
                Instant::now() < deadline,
                "waited in vain until {condition}"
            );
            self.ask(
                "Input.dispatchMouseEvent",
                json!({"type": "mouseMoved", "x": place["x"], "y": place["y"]}),
            );
        }
    }

    #[track_caller]
    fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.ask("Input.dispatchKeyEvent", json!({"type": kind, "key": key}));
        }
    }

    /// The page's requests and complaints.
    fn requests_and_complaints(&self) -> (Vec<&str>, Vec<&Value>) {
        let of = |method: &'static str| {
            let events = self.events.iter();
            events.filter(move |event| event["method"] == method)
        };
        let requests = of("Network.requestWillBeSent")
            .filter_map(|event| event["params"]["request"]["url"].as_str())
            .collect();
        let complaints = of("Runtime.exceptionThrown")
            .chain(of("Log.entryAdded"))
            .chain(of("Runtime.consoleAPICalled"))
            .chain(of("Page.javascriptDialogOpening"))
            .collect();
        (requests, complaints)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when the pipe is closed.
        drop(self.requests.take());
        let deadline = Instant::now() + DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// The tooltip's element.
const TIP: &str = "document.getElementById('tip')";

/// The pointer position over a chart's stop.
const PLACE: &str = "(() => {
    const plot = document.querySelectorAll('.plot')[CHART];
    plot.scrollIntoView({block: 'center', behavior: 'instant'});
    const stops = plot.querySelectorAll('.stop');
    const box = stops[Math.floor(stops.length / 2)].querySelector('rect').getBoundingClientRect();
    return {x: box.x + box.width / 2, y: box.y + box.height / 2};
})()";

#[test]
fn the_page_works_in_a_browser_and_asks_for_nothing() {
    require!("sh");
    let Some(mut browser) = Browser::start() else {
        skip_without!("chromium");
    };
    let directory = Directory::new("page");
    let path: PathBuf = directory.path("report.html");
    let mut result = run(&Plan {
        load: constant(2000.0),
        duration: Some(Duration::from_secs(1)),
        ..plan(embedded())
    });
    hostile(
        &mut result,
        "</title></style></script><script>throw 1</script>\"'><img src=//x.invalid/>",
    );
    std::fs::write(&path, html::render(&result)).unwrap();
    browser.resize(1400);
    browser.open(&path);

    // Every chart has a tooltip under the pointer.
    let charts = browser.evaluate("document.querySelectorAll('.plot').length");
    let charts = charts.as_u64().unwrap();
    assert!(charts >= 4, "{charts}");
    for (chart, word) in (0..charts).zip(["response", "response", "received", "p99", "round trip"])
    {
        let place = browser.evaluate(&PLACE.replace("CHART", &chart.to_string()));
        browser.point_at(&place, &format!("{TIP}.textContent.includes('{word}')"));
    }

    // Arrow keys show it too.
    browser.ask(
        "Input.dispatchMouseEvent",
        json!({"type": "mouseMoved", "x": 1, "y": 1}),
    );
    browser.wait_until(&format!("{TIP}.hidden"));
    browser.evaluate("document.querySelector('.plot').focus()");
    browser.press("End");
    browser.wait_until(&format!("!{TIP}.hidden"));
    let last = browser.evaluate(&format!("{TIP}.textContent"));
    browser.press("ArrowLeft");
    browser.wait_until(&format!("{TIP}.textContent !== {last}"));
    browser.press("Escape");
    browser.wait_until(&format!("{TIP}.hidden"));

    // Nothing overflows, on a wide and on a narrow screen, in light and dark.
    for width in [1400, 400] {
        browser.resize(width);
        for scheme in ["light", "dark"] {
            browser.ask(
                "Emulation.setEmulatedMedia",
                json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
            );
            browser.wait_until(&format!(
                "matchMedia('(prefers-color-scheme: {scheme})').matches"
            ));
            browser.wait_until("document.documentElement.scrollWidth <= innerWidth");
        }
    }

    // Without its script, the page still describes its stops.
    browser.ask(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": true}),
    );
    browser.open(&path);
    let document = browser.ask("DOM.getDocument", json!({}));
    let title = browser.ask(
        "DOM.querySelector",
        json!({"nodeId": document["root"]["nodeId"], "selector": ".stop title"}),
    );
    assert_ne!(title["nodeId"], 0);

    let (requests, complaints) = browser.requests_and_complaints();
    let own = format!("file://{}", path.display());
    assert!(!requests.is_empty());
    for request in requests {
        assert!(request == own || request.starts_with("data:"), "{request}");
    }
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// Pairs of labels of a chart that touch or overlap.
const TOUCHING: &str = "(() => {
    const found = [];
    for (const chart of document.querySelectorAll('svg')) {
        const labels = [...chart.querySelectorAll('text')].map(text => [text.textContent,
            text.getBoundingClientRect()]).filter(([text, box]) => text.trim() && box.width > 0);
        labels.forEach(([one, a], index) => labels.slice(index + 1).forEach(([other, b]) => {
            const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (across > 0 && down > 2) found.push(one + ' | ' + other);
        }));
    }
    return found.join(', ');
})()";

#[test]
fn labels_of_charts_do_not_touch_on_narrow_and_wide_screens() {
    require!("sh");
    let Some(mut browser) = Browser::start() else {
        skip_without!("chromium");
    };
    let directory = Directory::new("labels");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for result in [
        "docs/samples/run.json",
        "docs/samples/suspect.json",
        "docs/samples/compare.json",
        "fuzz/seeds/search/unfinished",
    ] {
        let json = std::fs::read(root.join(result)).unwrap();
        let stored = Stored::read(&json).unwrap();
        let path = directory.path("page.html");
        std::fs::write(&path, html::render(report::of(&stored))).unwrap();
        for width in [420, 1200] {
            browser.resize(width);
            browser.open(&path);
            assert_eq!(browser.evaluate(TOUCHING), "", "{result} at {width}");
            let drawn = browser.evaluate("document.querySelectorAll('svg text').length");
            assert!(drawn.as_u64() > Some(5), "{result}: {drawn}");
        }
    }
}
