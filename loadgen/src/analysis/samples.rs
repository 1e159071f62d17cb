//! Plans and results for tests, without a measurement.

use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::Duration;

use crate::analysis::aggregate::Aggregate;
use crate::analysis::summarize::{Context, summarize};
use crate::engine::cpu::CpuUse;
use crate::engine::histogram::BucketCounts;
use crate::engine::interval::Interval;
use crate::engine::slice::Slice;
use crate::engine::task::Account;
use crate::engine::tcp::TcpTotals;
use crate::observer::Unobserved;
use crate::plan::{Load, Plan, Target};
use crate::result::RunResult;

/// The slices of each thread, one per interval.
pub(crate) const SLICES: u64 = 10;

/// A closed loop for one second, with one connection per thread.
pub(crate) fn plan(threads: usize) -> Plan {
    Plan {
        target: Target::Servers {
            targets: vec!["tcp://127.0.0.1:7".parse().unwrap()],
        },
        connections: NonZeroUsize::new(threads).unwrap(),
        threads: NonZeroUsize::new(threads).unwrap(),
        load: Load::Closed {
            pipeline: NonZeroUsize::MIN,
        },
        duration: Some(Duration::from_secs(1)),
        warmup: Duration::ZERO,
        timeout: Duration::from_secs(5),
        seed: 1,
        interval: Duration::from_millis(100),
        ..Plan::default()
    }
}

/// The result of `plan` if each thread recorded these [`SLICES`].
pub(crate) fn result(plan: &Plan, threads: &[Vec<Slice<BucketCounts>>]) -> RunResult {
    let mut gathered = Aggregate::new(plan);
    gathered.window_start = 0;
    let (spare, _spared) = mpsc::channel();
    let length = plan.interval.as_nanos() as u64;
    let per_interval = gathered.division.slices();
    for number in 0..SLICES {
        for slices in threads {
            for part in 0..per_interval {
                // The rest of an interval is empty.
                let slice = (part == 0).then(|| Box::new(slices[number as usize].clone()));
                let index = number * per_interval + part;
                gathered.add(
                    Interval::Within(index),
                    length * (index + 1) / per_interval,
                    slice,
                    &spare,
                    &mut Unobserved,
                );
            }
        }
    }
    for thread in 0..threads.len() {
        let account = Account {
            finished_at: length * SLICES,
            window_ended_at: length * SLICES,
            cpu: CpuUse {
                wall_ns: length * SLICES,
                ..CpuUse::default()
            },
            ..Account::default()
        };
        gathered.add_account(thread, account, Vec::new(), TcpTotals::default());
    }
    gathered.close_all(&mut Unobserved);
    summarize(
        gathered,
        plan,
        Context {
            targets: &[],
            started_at: "2026-01-01T00:00:00.000Z".to_owned(),
            steal_ratio: None,
            memory_locked: false,
            common_start: None,
            hiccup: None,
            rate_changes: Vec::new(),
            background: None,
            server_probe: None,
        },
    )
}
