//! The live line of a watch: one line on the terminal, rewritten in place.

use std::io;
use std::sync::mpsc::Receiver;

use loadgen::observer::watch::{TargetStatus, WatchStatus};
use loadgen::plan::watch::WatchPlan;
use loadgen::report::format;

use super::{Feed, News};
use crate::terminal::progress::{self, Part};

/// Shows a watch on stderr until the feed is dropped.
///
/// # Errors
/// The error of the kernel if no thread can be started.
pub(crate) fn start(plan: &WatchPlan) -> io::Result<Feed> {
    let targets = plan.targets.len();
    Feed::start("loadgen-line", move |news| show(news, targets))
}

fn show(news: &Receiver<News>, targets: usize) {
    let mut shown = String::new();
    for news in news {
        let News::Status(status) = news else {
            continue;
        };
        let line = progress::fit_parts(parts(&status, targets));
        if line != shown {
            progress::write(&line);
            shown = line;
        }
    }
    progress::write("");
}

/// The parts of the line, most important first.
fn parts(status: &WatchStatus, targets: usize) -> Vec<Part> {
    let mut parts = vec![Part::Text(format!(
        "watching {}",
        format::clock(status.elapsed)
    ))];
    for target in &status.targets {
        if let Some((since, class)) = target.out {
            let for_now = status.elapsed.saturating_sub(since);
            parts.push(Part::Trouble(format!(
                "{} out {} {class}",
                name(target, targets),
                format::clock(for_now)
            )));
        }
    }
    let sum = |of: fn(&TargetStatus) -> u64| status.targets.iter().map(of).sum::<u64>();
    let outages = sum(|target| target.outages);
    if outages > 0 {
        let longest = status.targets.iter().map(|target| target.longest).max();
        let longest = longest.unwrap_or_default().as_nanos() as u64;
        parts.push(Part::Trouble(format!(
            "outages {outages}, longest {}",
            format::duration(Some(longest))
        )));
    } else {
        parts.push(Part::Text("no outage".to_owned()));
    }
    for (word, count) in [
        ("failed", sum(|target| target.failed)),
        ("late", sum(|target| target.late)),
        ("client absent", status.absences.0),
    ] {
        if count > 0 {
            parts.push(Part::Trouble(format!("{word} {}", format::grouped(count))));
        }
    }
    parts.push(Part::Text(format!(
        "answered {}",
        format::grouped(sum(|target| target.answered))
    )));
    let max = status
        .targets
        .iter()
        .filter_map(|target| target.max_ns)
        .max();
    parts.push(Part::Text(format!("max {}", format::duration(max))));
    parts
}

/// The kind, and the target's number if there are several.
pub(super) fn name(target: &TargetStatus, targets: usize) -> String {
    if targets > 1 {
        format!("{} {}", target.target + 1, target.kind)
    } else {
        target.kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use loadgen::result::watch::{OutageClass, ProbeKind};

    use super::*;

    fn target(out: Option<(Duration, OutageClass)>) -> TargetStatus {
        TargetStatus {
            target: 0,
            kind: ProbeKind::New,
            out,
            answered: 1_180,
            failed: 20,
            late: 0,
            outages: u64::from(out.is_some()),
            longest: Duration::from_millis(1500),
            total: Duration::from_millis(1500),
            p50_ns: Some(100_000),
            p99_ns: None,
            max_ns: Some(2_000_000),
            bin: Duration::from_secs(1),
            bins: Vec::new(),
        }
    }

    #[test]
    fn an_outage_is_told_first_and_the_target_by_its_number() {
        let out = Some((Duration::from_secs(10), OutageClass::Refused));
        let status = WatchStatus {
            elapsed: Duration::from_millis(11_500),
            targets: vec![target(out)],
            absences: (0, Duration::ZERO),
        };
        let texts = |targets| -> Vec<String> {
            let parts = parts(&status, targets);
            parts.iter().map(Part::text).collect()
        };
        let one = texts(1);
        assert_eq!(one[0], "watching 11.5 s");
        assert_eq!(one[1], "new out 1.5 s refused");
        assert_eq!(one[2], "outages 1, longest 1.50 s");
        assert!(texts(2)[1].starts_with("1 new out"));
    }

    #[test]
    fn a_calm_watch_says_so() {
        let status = WatchStatus {
            elapsed: Duration::from_secs(1),
            targets: vec![target(None)],
            absences: (0, Duration::ZERO),
        };
        let parts = parts(&status, 1);
        assert!(parts.contains(&Part::Text("no outage".to_owned())));
    }
}
