//! UDP sockets of endpoints with faults: [`Datagrams::pump_faulty`] in place of `pump`.

use super::{DatagramTable, Served};
use crate::reactor::alarms::AlarmOf;
use crate::reactor::context::Context;
use crate::reactor::kernel::{Kernel, KernelTime};
use crate::udp::{DatagramSocket, Means};

impl<D: DatagramSocket> DatagramTable<D> {
    /// Prepares the sockets of endpoints that have faults. A socket whose endpoint has none any more
    /// keeps serving what it holds back.
    pub(in crate::reactor) fn apply_faults<K>(&mut self, cx: &Context<K>) {
        for served in &mut self.sockets {
            if cx.rules.faults_of(served.endpoint).is_some() && served.datagrams.is_some() {
                served.faulty.get_or_insert_default();
                // A standstill may be over, or a delay.
                served.has_more = true;
            }
        }
    }

    /// Whether a socket has answers that have not left.
    pub(in crate::reactor) fn holds_back(&self) -> bool {
        let faulty = self.sockets.iter().filter_map(|it| it.faulty.as_ref());
        faulty.into_iter().any(|it| it.holds_back())
    }

    pub(super) fn pump_faulty<K: Kernel>(&mut self, index: usize, cx: &mut Context<K>) {
        let now_ns = cx.now_ns();
        let Served {
            endpoint,
            datagrams: Some(datagrams),
            faulty: Some(faulty),
            ..
        } = &mut self.sockets[index]
        else {
            return;
        };
        let rules = &cx.rules;
        let admission = &cx.control.admission;
        let mut limited = None;
        let allowance = |source, count| {
            let allowance = admission.udp_allowance(&rules.policy, source, || now_ns, count);
            if allowance.over_source_rate > 0 {
                limited = Some(source);
            }
            allowance
        };
        let faults = rules.faults_of(*endpoint).cloned().unwrap_or_default();
        let mut means = Means {
            faults: &faults,
            numbers: &cx.control.numbers[*endpoint].datagrams,
            time: KernelTime(&mut cx.kernel),
            batch: &mut self.batch,
            guard: &self.guard,
            metrics: &cx.metrics,
        };
        let before = cx.metrics.udp_received_datagrams.value();
        let next = datagrams.pump_faulty(faulty, &mut means, allowance);
        let after = cx.metrics.udp_received_datagrams.value();
        let arrivals = cx.control.arrivals(cx.index, *endpoint);
        arrivals.add(after.wrapping_sub(before));
        let (wake_ns, has_ended) = (faulty.wake_ns(), faulty.has_ended());
        cx.set_alarm(AlarmOf::Datagrams(index), wake_ns);
        self.follow(index, next, cx);
        if let Some(source) = limited {
            self.log_limited(source, cx);
        }
        if has_ended {
            self.close_one(index, cx);
        }
    }

    /// Lets a socket receive nothing more. Returns whether it stays open for what it holds back.
    pub(super) fn end_faulty<K: Kernel>(&mut self, index: usize, cx: &mut Context<K>) -> bool {
        let faulty = self.sockets[index].faulty.as_mut();
        let Some(faulty) = faulty.filter(|it| it.holds_back()) else {
            return false;
        };
        faulty.end();
        self.pump_faulty(index, cx);
        true
    }
}
