//! The probes of one persistent connection, or the new connections to one target, and what becomes of them.
//! Pure: times are inputs.
//!
//! Probes are judged in the order in which they were due, whenever it is known what became of them. So a
//! stretch has one beginning and one end, and a probe that is given up after five seconds is where it belongs.

use std::collections::VecDeque;

use super::series::{Answer, Series};
use super::stretches::Stretch;
use crate::result::watch::OutageClass;

/// A delay of the client up to this is its usual one, and of no account.
pub(super) const USUAL_LAG_NS: u64 = 2_000_000;

/// Why a probe has no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    pub(super) class: OutageClass,
    /// The system's error, if there was one.
    pub(super) error: Option<Box<str>>,
}

/// What became of a probe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// The answer was there at this time.
    Answered(u64),
    /// It has none.
    Failed(Failure),
    /// The client could not send it.
    Unsent,
}

/// The probes of a lane in the order in which they were due.
#[derive(Debug)]
pub(super) struct Lane {
    connection: usize,
    timeout: u64,
    late: u64,
    /// The first that is not judged has this number.
    first: u64,
    probes: VecDeque<Probe>,
    state: State,
    /// Late answers up to here belong to the outage before them.
    covered_until: u64,
    /// How the connection was lost before the probe of this number was sent: so an outage begins that begins with
    /// it.
    lost: Option<(u64, Failure)>,
}

#[derive(Debug)]
struct Probe {
    due: u64,
    /// The time of its life in which the client did not run.
    absent: u64,
    outcome: Option<Outcome>,
}

#[derive(Debug)]
enum State {
    /// The last probe was answered in time.
    Up,
    /// Probes failed. With the first answer that came since, the outage is over, unless a probe that was due
    /// before that failed too.
    Out(Stretch, Option<u64>),
    /// The last answers were late.
    Late(Stretch),
}

impl Lane {
    /// The lane of a connection with this index. An answer after `late` is late, and there is none after
    /// `timeout`.
    pub(super) fn new(connection: usize, timeout: u64, late: u64) -> Self {
        Self {
            connection,
            timeout,
            late,
            first: 0,
            probes: VecDeque::new(),
            state: State::Up,
            covered_until: 0,
            lost: None,
        }
    }

    /// A probe that was due at `due` is sent at `now`. Returns its number.
    pub(super) fn send(&mut self, due: u64, now: u64) -> u64 {
        let lag = now.saturating_sub(due);
        self.probes.push_back(Probe {
            due,
            absent: if lag > USUAL_LAG_NS { lag } else { 0 },
            outcome: None,
        });
        self.first + self.probes.len() as u64 - 1
    }

    /// The client did not run between these times.
    pub(super) fn excuse(&mut self, from: u64, until: u64) {
        for probe in &mut self.probes {
            if probe.outcome.is_none() {
                // What it was late with at the send is counted already.
                let from = from.max(probe.due + probe.absent);
                probe.absent += until.saturating_sub(from);
            }
        }
    }

    /// When the probe's time is over; `None` if it is settled.
    pub(super) fn deadline(&self, number: u64) -> Option<u64> {
        let probe = self.probe(number)?;
        probe
            .outcome
            .is_none()
            .then(|| probe.due + self.timeout + probe.absent)
    }

    /// The connection was lost.
    pub(super) fn note_loss(&mut self, failure: Failure) {
        self.lost = Some((self.first + self.probes.len() as u64, failure));
    }

    /// Number of probes whose outcome is open.
    pub(super) fn unsettled(&self) -> usize {
        let is_open = |probe: &&Probe| probe.outcome.is_none();
        self.probes.iter().filter(is_open).count()
    }

    fn probe(&self, number: u64) -> Option<&Probe> {
        let index = number.checked_sub(self.first)?;
        self.probes.get(usize::try_from(index).ok()?)
    }

    /// Notes what became of a probe. A later outcome of the same probe is ignored.
    pub(super) fn settle(&mut self, number: u64, outcome: Outcome, series: &mut Series) {
        let Some(index) = number.checked_sub(self.first) else {
            return;
        };
        let Some(probe) = self.probes.get_mut(index as usize) else {
            return;
        };
        probe.outcome.get_or_insert(outcome);
        while self.probes.front().is_some_and(|it| it.outcome.is_some()) {
            if let Some(probe) = self.probes.pop_front() {
                self.judge(self.first, probe, series);
                self.first += 1;
            }
        }
    }

    /// Ends the lane at `now`: what is not settled stays open.
    pub(super) fn end(&mut self, now: u64, series: &mut Series) {
        for (number, probe) in (self.first..).zip(std::mem::take(&mut self.probes)) {
            if probe.outcome.is_some() {
                self.judge(number, probe, series);
            }
        }
        match std::mem::replace(&mut self.state, State::Up) {
            State::Up => {}
            State::Out(stretch, answered) => {
                let stretch = Stretch {
                    end: answered.unwrap_or(now).max(stretch.start),
                    ongoing: answered.is_none(),
                    ..stretch
                };
                series.end(self.connection, stretch);
            }
            State::Late(stretch) => series.end(self.connection, stretch),
        }
    }

    fn judge(&mut self, number: u64, probe: Probe, series: &mut Series) {
        self.end_outage_before(probe.due, series);
        match probe.outcome {
            Some(Outcome::Answered(at)) => {
                let waited = at.saturating_sub(probe.due);
                let response = waited.saturating_sub(probe.absent);
                let is_late = response > self.late;
                series.note_answer(Answer {
                    due: probe.due,
                    response,
                    is_late,
                    is_timed: probe.absent == 0,
                });
                self.lost.take_if(|(next, _)| number >= *next);
                if is_late {
                    self.answer_late(probe.due, at);
                } else {
                    self.end_late(series);
                    self.answer_in_time(at);
                }
            }
            Some(Outcome::Failed(failure)) => {
                series.note_failure(probe.due, failure.class);
                self.end_late(series);
                self.fail(number, probe.due, failure, series);
            }
            Some(Outcome::Unsent) => {
                series.sent -= 1;
                series.unsent += 1;
            }
            None => {}
        }
    }

    fn fail(&mut self, number: u64, due: u64, failure: Failure, series: &mut Series) {
        if let State::Out(stretch, _) = &mut self.state {
            stretch.probes += 1;
            return;
        }
        let Failure { class, error } = match self.lost.take() {
            Some((next, loss)) if number >= next => loss,
            _ if failure.class == OutageClass::Timeout => self.told(due).unwrap_or(failure),
            _ => failure,
        };
        series.begin(self.connection, due, class, error.clone());
        self.state = State::Out(self.stretch(due, due, class, error), None);
    }

    /// What was told of a probe that was due within a timeout from `start` on: it explains the silence. The network
    /// does not answer every datagram.
    fn told(&self, start: u64) -> Option<Failure> {
        let until = start + self.timeout;
        let probes = self.probes.iter().take_while(|probe| probe.due < until);
        let mut outcomes = probes.filter_map(|probe| probe.outcome.as_ref());
        outcomes.find_map(|outcome| match outcome {
            Outcome::Failed(failure) if failure.class != OutageClass::Timeout => {
                Some(failure.clone())
            }
            _ => None,
        })
    }

    /// Ends an outage if an answer came before a probe was due at `due`: no probe before that is unknown.
    fn end_outage_before(&mut self, due: u64, series: &mut Series) {
        if let State::Out(_, Some(answered)) = self.state
            && answered <= due
            && let State::Out(stretch, _) = std::mem::replace(&mut self.state, State::Up)
        {
            let end = answered.max(stretch.start);
            self.covered_until = end;
            series.end(self.connection, Stretch { end, ..stretch });
        }
    }

    fn answer_in_time(&mut self, at: u64) {
        if let State::Out(_, answered) = &mut self.state {
            *answered = Some(answered.map_or(at, |earlier| earlier.min(at)));
        }
    }

    fn answer_late(&mut self, due: u64, at: u64) {
        match &mut self.state {
            State::Out(..) => self.answer_in_time(at),
            State::Late(stretch) => {
                stretch.end = stretch.end.max(at);
                stretch.probes += 1;
            }
            // What waited behind an outage came with its end.
            State::Up if at <= self.covered_until + USUAL_LAG_NS => {}
            State::Up => self.state = State::Late(self.stretch(due, at, OutageClass::Late, None)),
        }
    }

    fn end_late(&mut self, series: &mut Series) {
        if matches!(self.state, State::Late(_))
            && let State::Late(stretch) = std::mem::replace(&mut self.state, State::Up)
        {
            series.end(self.connection, stretch);
        }
    }

    fn stretch(
        &self,
        start: u64,
        end: u64,
        class: OutageClass,
        error: Option<Box<str>>,
    ) -> Stretch {
        Stretch {
            start,
            end,
            class,
            error,
            probes: 1,
            connections: [self.connection].into(),
            ongoing: false,
        }
    }
}

#[cfg(test)]
mod tests;
