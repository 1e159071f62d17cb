use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use super::*;
use crate::plan::sizes::Sizes;
use crate::plan::{Load, Pacing, Priority, SocketOptions, Spacing, Target, Workload};
use crate::profile::Profile;
use crate::result::histogram;
use crate::result::{RateChange, ThreadResult};

/// 98 % of the samples are `p50`, the rest is `p99`.
pub(super) fn latency(p50: u64, p99: u64) -> Latency {
    let mut histogram = histogram::empty();
    histogram.record_n(p50, 9_800).unwrap();
    histogram.record_n(p99, 200).unwrap();
    Latency::new(histogram).unwrap()
}

/// The evidence for a verdict, to be modified.
pub(super) struct Case {
    pub(super) plan: Plan,
    pub(super) rate: Rate,
    pub(super) counts: Counts,
    pub(super) latency_ns: Latencies,
    pub(super) statistics: Statistics,
    pub(super) client: Client,
    pub(super) service: Service,
    pub(super) held: u64,
}

impl Case {
    /// A run without objections.
    pub(super) fn clean() -> Self {
        Self {
            plan: Plan {
                target: Target::Embedded {
                    embedded_workers: NonZeroUsize::MIN,
                },
                workload: Workload::Request,
                connections: NonZeroUsize::new(4).unwrap(),
                threads: NonZeroUsize::MIN,
                load: Load::Open {
                    rate: Profile::constant(1000.0).unwrap(),
                    arrivals: Spacing::Constant,
                    pipeline: None,
                },
                size: Sizes::Fixed(64),
                duration: Some(Duration::from_secs(10)),
                warmup: Duration::ZERO,
                requests: None::<NonZeroU64>,
                ramp: Duration::ZERO,
                timeout: Duration::from_secs(1),
                seed: 1,
                verify: true,
                interval: Duration::from_secs(1),
                pacing: Pacing::Hybrid,
                priority: Priority::Normal,
                opening: crate::plan::Opening::default(),
                tls: crate::plan::TlsOptions::default(),
                sources: Vec::new(),
                socket: SocketOptions::default(),
                background: None,
                repeat: NonZeroUsize::MIN,
                server_admin: None,
                shard: None,
            },
            rate: Rate {
                target: Some(1000.0),
                offered: 1000.0,
                achieved: 1000.0,
                changes: Vec::new(),
            },
            counts: Counts {
                issued: 10_000,
                sent: 10_000,
                received: 10_000,
                verified: 10_000,
                opened: 4,
                ..Counts::default()
            },
            latency_ns: Latencies {
                response: Some(latency(50_000, 100_000)),
                service: Some(latency(50_000, 100_000)),
                connect: None,
                send_lag: None,
                handshake: None,
                first_byte: None,
                close: None,
            },
            statistics: Statistics::default(),
            client: Client {
                threads: vec![ThreadResult {
                    cpu_ratio: 0.9,
                    busy_ratio: 0.5,
                    involuntary_switches: 100,
                    run_delay_ratio: Some(0.001),
                    run_delay_ns_mean: Some(1_000_000.0),
                }],
                steal_ratio: Some(0.0),
                own_send_lag: Some(latency(500, 2_000)),
                hiccup: Some(latency(60_000, 120_000)),
                first_corruption: None,
                scheduling: None,
            },
            service: Service {
                connections: 4,
                ..Service::default()
            },
            held: 4,
        }
    }

    pub(super) fn evidence(&self) -> Evidence<'_> {
        Evidence {
            plan: &self.plan,
            duration_s: 10.0,
            rate: &self.rate,
            counts: &self.counts,
            latency_ns: &self.latency_ns,
            statistics: &self.statistics,
            client: &self.client,
            server: None,
            service: &self.service,
            held: self.held,
        }
    }

    fn verdict(&self) -> Verdict {
        Verdict::of(&self.evidence())
    }
}

fn codes(change: impl FnOnce(&mut Case)) -> (Status, Vec<Code>) {
    let mut case = Case::clean();
    change(&mut case);
    let verdict = case.verdict();
    let codes = verdict
        .reasons
        .iter()
        .map(|reason| reason.code.clone())
        .collect();
    (verdict.status, codes)
}

#[test]
fn a_clean_run_is_valid() {
    assert_eq!(codes(|_| ()), (Status::Valid, vec![]));
}

#[test]
fn what_came_back_is_judged() {
    use Status::{Invalid, Suspect};
    for (name, change) in [
        ("corrupt", (|c| c.corrupt = 1) as fn(&mut Counts)),
        ("corrupt in the warm-up", |c| c.corrupt_in_warm_up = 1),
        ("stray", |c| c.stray = 1),
        ("surplus", |c| c.duplicated = 1),
    ] {
        let found = codes(|case| change(&mut case.counts));
        assert_eq!(found, (Invalid, vec![Code::Corrupt]), "{name}");
    }
    let nothing = codes(|case| (case.counts.received, case.counts.verified) = (0, 0));
    assert_eq!(nothing, (Invalid, vec![Code::NoData]));
    for change in [
        (|c| c.lost = 1) as fn(&mut Counts),
        |c| c.timed_out = 1,
        |c| c.unfinished = 1,
    ] {
        assert_eq!(
            codes(|case| change(&mut case.counts)),
            (Suspect, vec![Code::Missing])
        );
    }
    let unknown = codes(|case| case.counts.verified = 9_999);
    assert_eq!(unknown, (Suspect, vec![Code::NotVerified]));
    let few = codes(|case| (case.counts.received, case.counts.verified) = (999, 999));
    assert_eq!(few, (Suspect, vec![Code::FewSamples]));
}

#[test]
fn datagrams_may_come_twice() {
    let found = codes(|case| {
        case.plan.target = Target::Servers {
            targets: vec!["udp://127.0.0.1:7".parse().unwrap()],
        };
        case.counts.duplicated = 5;
    });
    assert_eq!(found, (Status::Valid, vec![]));
}

#[test]
fn the_schedule_is_judged_in_an_open_loop_only() {
    let late = |case: &mut Case| {
        case.rate.achieved = 989.0;
        case.counts.unsent = 101;
        case.client.own_send_lag = Some(latency(500, 11_000));
    };
    assert_eq!(
        codes(late),
        (
            Status::Invalid,
            vec![Code::RateNotAchieved, Code::Unsent, Code::SendLag]
        )
    );
    let closed = codes(|case| {
        late(case);
        case.plan.load = Load::Closed {
            pipeline: NonZeroUsize::MIN,
        };
    });
    assert_eq!(closed, (Status::Valid, vec![]));
    let changed = codes(|case| {
        case.rate.changes.push(RateChange {
            at_s: 1.0,
            rate: 2000.0,
        });
    });
    assert_eq!(changed, (Status::Suspect, vec![Code::RateChanged]));
}

#[test]
fn missing_connections_and_ports_are_named() {
    use Status::{Invalid, Suspect};
    let failed = codes(|case| case.counts.failed = 1);
    assert_eq!(failed, (Suspect, vec![Code::ConnectionsFailed]));
    let ports = |out_of_ports| {
        codes(|case| {
            case.counts.opened = 1000;
            case.counts.failed = out_of_ports;
            case.counts.out_of_ports = out_of_ports;
        })
    };
    assert_eq!(ports(5), (Suspect, vec![Code::OutOfPorts]));
    assert_eq!(ports(50), (Invalid, vec![Code::OutOfPorts]));
    assert_eq!(
        codes(|case| case.counts.unclosed = 1),
        (Suspect, vec![Code::Unclosed])
    );
    let dropped = codes(|case| {
        case.plan.workload = Workload::Idle;
        case.held = 3;
    });
    assert_eq!(dropped, (Suspect, vec![Code::NotHeld]));
}

#[test]
fn the_client_watches_itself() {
    use Status::Suspect;
    let busy = codes(|case| case.client.threads[0].busy_ratio = 0.86);
    assert_eq!(busy, (Suspect, vec![Code::ClientBusy]));
    let waited = codes(|case| case.client.threads[0].run_delay_ratio = Some(0.011));
    let woke_up = codes(|case| {
        case.client.threads[0].run_delay_ratio = Some(0.03);
        case.client.threads[0].run_delay_ns_mean = Some(2_000.0);
    });
    assert_eq!(woke_up, (Status::Valid, vec![]));
    assert_eq!(waited, (Suspect, vec![Code::Preempted]));
    let switched = codes(|case| {
        case.client.threads[0].run_delay_ratio = None;
        case.client.threads[0].involuntary_switches = 501;
    });
    assert_eq!(switched, (Suspect, vec![Code::Preempted]));
    let stolen = codes(|case| case.client.steal_ratio = Some(0.02));
    assert_eq!(stolen, (Suspect, vec![Code::Steal]));
}

#[test]
fn hiccups_are_named_where_they_explain_the_tail() {
    let found = |hiccup_p99, response_p99| {
        codes(|case| {
            case.client.hiccup = Some(latency(60_000, hiccup_p99));
            case.latency_ns.response = Some(latency(50_000, response_p99));
        })
    };
    assert_eq!(
        found(5_000_000, 6_000_000),
        (Status::Suspect, vec![Code::Hiccups])
    );
    let clean = (Status::Valid, vec![]);
    assert_eq!(
        found(2_000_000, 6_000_000),
        clean,
        "the tail is the server's"
    );
    assert_eq!(
        found(250_000, 300_000),
        clean,
        "that is how threads are woken"
    );
}

#[test]
fn a_host_that_stood_still_is_named() {
    let stood_still = |count| {
        codes(|case| {
            let mut histogram = histogram::empty();
            histogram.record_n(60_000, 1_000 - count).unwrap();
            histogram.record_n(50_000_000, count).unwrap();
            case.client.hiccup = Latency::new(histogram);
        })
    };
    assert_eq!(
        stood_still(20),
        (Status::Suspect, vec![Code::Standstill, Code::Hiccups])
    );
    assert_eq!(stood_still(4), (Status::Valid, vec![]));
}

#[test]
fn a_window_that_changes_is_named() {
    let transient = codes(|case| {
        case.statistics.trend = Some(Trend::Transient {
            until: 0.2,
            from: 2e5,
            to: 1e5,
        });
    });
    assert_eq!(transient, (Status::Suspect, vec![Code::WarmingUp]));
    let drift = |case: &mut Case| {
        case.statistics.trend = Some(Trend::Drift { from: 1e5, to: 2e5 });
    };
    assert_eq!(codes(drift), (Status::Suspect, vec![Code::Drift]));
    let ramp = codes(|case| {
        drift(case);
        case.plan.load = Load::Open {
            rate: "1k..10k".parse().unwrap(),
            arrivals: Spacing::Constant,
            pipeline: None,
        };
    });
    assert_eq!(ramp, (Status::Valid, vec![]));
}

#[test]
fn what_does_not_wait_for_the_end_is_known_before() {
    let case = Case::clean();
    let so_far = |lag_ratio, change: fn(&mut Counts)| {
        let mut counts = case.counts;
        change(&mut counts);
        Verdict::so_far(&case.plan, &counts, lag_ratio)
    };
    assert_eq!(so_far(Some(0.1), |_| ()), (Status::Valid, None));
    assert_eq!(
        so_far(Some(0.11), |_| ()),
        (Status::Invalid, Some(Code::SendLag))
    );
    assert_eq!(
        so_far(None, |c| c.corrupt = 1),
        (Status::Invalid, Some(Code::Corrupt))
    );
    assert_eq!(
        so_far(None, |c| c.unsent = 101),
        (Status::Invalid, Some(Code::Unsent))
    );
    assert_eq!(
        so_far(None, |c| c.lost = 1),
        (Status::Suspect, Some(Code::Missing))
    );
}

#[test]
fn connections_that_are_not_served_come_first() {
    let case = codes(|case| {
        case.service.unserved = 3;
        case.counts.failed = 144;
        case.counts.unfinished = 3;
    });
    let expected = vec![Code::NotServed, Code::ConnectionsFailed, Code::Missing];
    assert_eq!(case, (Status::Invalid, expected));
    let mut case = Case::clean();
    case.service = Service {
        connections: 100,
        unserved: 36,
        cause: "closed by the server before it answered".to_owned(),
        ..Service::default()
    };
    let text = &case.verdict().reasons[0].text;
    assert!(text.starts_with("36 of 100 connections"), "{text}");
}

#[test]
fn what_came_instead_of_an_echo_is_shown_and_says_what_to_do() {
    let text = |bytes: &[u8]| {
        let mut case = Case::clean();
        case.service.instead = Some(crate::analysis::service::Instead {
            bytes_out: 640,
            bytes: bytes.to_vec(),
        });
        let verdict = case.verdict();
        assert_eq!(verdict.reasons[0].code, Code::NoEcho);
        verdict.reasons[0].text.clone()
    };
    for (bytes, words) in [
        (&b""[..], "nothing came back"),
        (
            b"HTTP/1.1 400 Bad Request\r\n",
            r"HTTP/1.1 400 Bad Request\r\n",
        ),
        (b"\x15\x03\x01\x00", "TLS"),
        (b" !\"#$%&", "--direction down"),
        (b"\x00\xff", r"\x00\xff"),
    ] {
        let text = text(bytes);
        assert!(text.starts_with("640 bytes were sent"), "{text}");
        assert!(text.contains(words), "{text}");
    }
}
