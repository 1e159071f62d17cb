//! Explores every order of events of one predecessor and two successors that ask at the same time,
//! with every pair of faults at every step: a process killed, told to end, failing to start, and a
//! connection cut with its messages lost.

use std::collections::HashSet;

use super::{
    OfferAction, OfferEvent, Predecessor, Standing, Successor, TakeoverAction, TakeoverEvent,
};

/// The faults on one path.
const MAX_FAULTS: u8 = 2;
const SUCCESSORS: usize = 2;

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum ToPredecessor {
    Hello,
    Taken,
    Serving,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum ToSuccessor {
    Offer,
    Granted,
    Released,
    Refused,
    Busy,
    Ending,
}

/// What the predecessor has decided about its sockets.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Sockets {
    Kept,
    Granted(usize),
    Released(usize),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Process {
    is_alive: bool,
    is_told_to_end: bool,
}

impl Process {
    const STARTED: Self = Self {
        is_alive: true,
        is_told_to_end: false,
    };

    /// It runs and was not told to end.
    fn is_wanted(self) -> bool {
        self.is_alive && !self.is_told_to_end
    }
}

/// A successor, the predecessor's side of its connection, and the messages under way.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Connection {
    process: Process,
    offer: Predecessor,
    takeover: Successor,
    to_predecessor: Vec<ToPredecessor>,
    to_successor: Vec<ToSuccessor>,
    closed_by_predecessor: bool,
    closed_by_successor: bool,
    is_cut: bool,
    was_granted: bool,
    has_served: bool,
    has_failed: bool,
}

impl Connection {
    fn new() -> Self {
        Self {
            process: Process::STARTED,
            offer: Predecessor::AwaitingHello,
            takeover: Successor::AwaitingOffer,
            to_predecessor: vec![ToPredecessor::Hello],
            to_successor: Vec::new(),
            closed_by_predecessor: false,
            closed_by_successor: false,
            is_cut: false,
            was_granted: false,
            has_served: false,
            has_failed: false,
        }
    }

    fn serves(&self) -> bool {
        let accepts = match self.takeover {
            Successor::AwaitingRelease => true,
            // An owner that is told to end empties its queues and closes them.
            Successor::Owner => !self.process.is_told_to_end,
            _ => false,
        };
        self.process.is_alive && accepts
    }

    fn end(&mut self) {
        self.process.is_alive = false;
        self.closed_by_successor = true;
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    predecessor: Process,
    sockets: Sockets,
    connections: [Connection; SUCCESSORS],
    faults: u8,
}

/// A step of the world, of the connection with this index if it has one.
#[derive(Clone, Copy, Debug)]
enum Step {
    Offer(usize, OfferEvent),
    DeliverToPredecessor(usize),
    Takeover(usize, TakeoverEvent),
    DeliverToSuccessor(usize),
    Kill,
    TellToEnd,
    KillSuccessor(usize),
    TellSuccessorToEnd(usize),
    FailToStart(usize),
    Cut(usize),
}

impl World {
    fn new() -> Self {
        Self {
            predecessor: Process::STARTED,
            sockets: Sockets::Kept,
            connections: [(); SUCCESSORS].map(|()| Connection::new()),
            faults: 0,
        }
    }

    fn standing(&self) -> Standing {
        match self.sockets {
            Sockets::Granted(_) | Sockets::Released(_) => Standing::Busy,
            Sockets::Kept if self.predecessor.is_told_to_end => Standing::Ending,
            Sockets::Kept => Standing::Serving,
        }
    }

    fn predecessor_serves(&self) -> bool {
        self.predecessor.is_alive
            && match self.sockets {
                Sockets::Kept => !self.predecessor.is_told_to_end,
                // A drain waits for the decision.
                Sockets::Granted(_) => true,
                Sockets::Released(_) => false,
            }
    }

    /// What the two machines do next, in any order.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (index, it) in self.connections.iter().enumerate() {
            if self.predecessor.is_alive && it.offer == Predecessor::Releasing {
                steps.push(Step::Offer(index, OfferEvent::Sent));
            } else if self.predecessor.is_alive && it.offer != Predecessor::Over {
                if !it.to_predecessor.is_empty() {
                    steps.push(Step::DeliverToPredecessor(index));
                } else if it.closed_by_successor {
                    steps.push(Step::Offer(index, OfferEvent::Closed));
                }
                steps.push(Step::Offer(index, OfferEvent::TimedOut));
                steps.push(Step::Offer(index, OfferEvent::Malformed));
                if self.predecessor.is_told_to_end && it.offer == Predecessor::AwaitingTaken {
                    steps.push(Step::Offer(index, OfferEvent::ToldToEnd));
                }
            }
            if it.process.is_alive {
                self.add_steps_of_successor(index, &mut steps);
            }
        }
        steps
    }

    fn add_steps_of_successor(&self, index: usize, steps: &mut Vec<Step>) {
        let it = &self.connections[index];
        let mut add = |event| steps.push(Step::Takeover(index, event));
        let waits = match it.takeover {
            Successor::AwaitingOffer | Successor::AwaitingGrant => {
                add(TakeoverEvent::TimedOut);
                true
            }
            Successor::Preparing => {
                add(TakeoverEvent::Prepared);
                false
            }
            Successor::Starting | Successor::StartingAlone => {
                add(TakeoverEvent::Serving);
                if it.process.is_told_to_end {
                    add(TakeoverEvent::ToldToEnd);
                }
                false
            }
            Successor::AwaitingRelease => {
                if it.process.is_told_to_end {
                    add(TakeoverEvent::TimedOut);
                }
                true
            }
            Successor::Owner | Successor::Over => false,
        };
        if waits && !it.to_successor.is_empty() {
            steps.push(Step::DeliverToSuccessor(index));
        } else if waits && it.closed_by_predecessor {
            steps.push(Step::Takeover(index, TakeoverEvent::Closed));
        }
    }

    /// The faults that can happen next.
    fn faults(&self) -> Vec<Step> {
        let mut faults = Vec::new();
        if self.faults == MAX_FAULTS {
            return faults;
        }
        if self.predecessor.is_alive {
            faults.push(Step::Kill);
        }
        if self.predecessor.is_wanted() {
            faults.push(Step::TellToEnd);
        }
        for (index, it) in self.connections.iter().enumerate() {
            if it.process.is_alive {
                faults.push(Step::KillSuccessor(index));
            }
            if it.process.is_wanted() {
                faults.push(Step::TellSuccessorToEnd(index));
            }
            if matches!(it.takeover, Successor::Preparing | Successor::Starting) {
                faults.push(Step::FailToStart(index));
            }
            if !it.is_cut && it.offer != Predecessor::Over && self.predecessor.is_alive {
                faults.push(Step::Cut(index));
            }
        }
        faults
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Offer(index, event) => self.offer(index, event),
            Step::DeliverToPredecessor(index) => {
                let standing = self.standing();
                let event = match self.connections[index].to_predecessor.remove(0) {
                    ToPredecessor::Hello => OfferEvent::Hello(standing),
                    ToPredecessor::Taken => {
                        let expects = self.connections[index].offer;
                        if standing == Standing::Serving && expects == Predecessor::AwaitingTaken {
                            self.sockets = Sockets::Granted(index);
                        }
                        OfferEvent::Taken(standing)
                    }
                    ToPredecessor::Serving => OfferEvent::Serving,
                };
                self.offer(index, event);
            }
            Step::Takeover(index, event) => self.takeover(index, event),
            Step::DeliverToSuccessor(index) => {
                let event = match self.connections[index].to_successor.remove(0) {
                    ToSuccessor::Offer => TakeoverEvent::Offered,
                    ToSuccessor::Granted => TakeoverEvent::Granted,
                    ToSuccessor::Released => TakeoverEvent::Released,
                    ToSuccessor::Refused => TakeoverEvent::Refused,
                    ToSuccessor::Busy => TakeoverEvent::Busy,
                    ToSuccessor::Ending => TakeoverEvent::Ending,
                };
                self.takeover(index, event);
            }
            fault => self.suffer(fault),
        }
    }

    fn suffer(&mut self, fault: Step) {
        self.faults += 1;
        match fault {
            Step::Kill => {
                self.predecessor.is_alive = false;
                for it in &mut self.connections {
                    it.closed_by_predecessor = true;
                }
            }
            Step::TellToEnd => self.predecessor.is_told_to_end = true,
            Step::KillSuccessor(index) | Step::FailToStart(index) => self.connections[index].end(),
            Step::TellSuccessorToEnd(index) => {
                let it = &mut self.connections[index];
                it.process.is_told_to_end = true;
                // It obeys signals once it is granted the sockets, and before that ends at once.
                if matches!(
                    it.takeover,
                    Successor::AwaitingOffer | Successor::Preparing | Successor::AwaitingGrant
                ) {
                    it.end();
                }
            }
            Step::Cut(index) => {
                let it = &mut self.connections[index];
                it.is_cut = true;
                it.to_predecessor.clear();
                it.to_successor.clear();
                it.closed_by_predecessor = true;
                it.closed_by_successor = true;
            }
            other => panic!("{other:?} is no fault"),
        }
    }

    fn offer(&mut self, index: usize, event: OfferEvent) {
        let it = &mut self.connections[index];
        let action;
        (it.offer, action) = it.offer.on(event);
        let mut send = |message| {
            if !it.is_cut {
                it.to_successor.push(message);
            }
        };
        match action {
            OfferAction::Nothing => {}
            OfferAction::SendOffer => send(ToSuccessor::Offer),
            OfferAction::SendGranted => {
                send(ToSuccessor::Granted);
                it.was_granted = true;
            }
            // The write fails.
            OfferAction::SendReleased if it.closed_by_successor => {
                self.offer(index, OfferEvent::Closed);
                return;
            }
            OfferAction::SendReleased => send(ToSuccessor::Released),
            OfferAction::Refuse => send(ToSuccessor::Refused),
            OfferAction::SendBusy => send(ToSuccessor::Busy),
            OfferAction::SendEnding => send(ToSuccessor::Ending),
            OfferAction::RefuseAndReclaim => {
                send(ToSuccessor::Refused);
                self.sockets = Sockets::Kept;
            }
            OfferAction::Reclaim => self.sockets = Sockets::Kept,
            OfferAction::Release => self.sockets = Sockets::Released(index),
        }
        it.closed_by_predecessor |= it.offer == Predecessor::Over;
    }

    fn takeover(&mut self, index: usize, event: TakeoverEvent) {
        let it = &mut self.connections[index];
        let action;
        (it.takeover, action) = it.takeover.on(event);
        let mut send = |message| {
            // A write to a closed connection fails; the end is read next.
            if !it.closed_by_predecessor {
                it.to_predecessor.push(message);
            }
        };
        match action {
            TakeoverAction::Nothing | TakeoverAction::Prepare | TakeoverAction::Start => {}
            TakeoverAction::SendTaken => send(ToPredecessor::Taken),
            TakeoverAction::SendServing => {
                send(ToPredecessor::Serving);
                it.has_served = true;
            }
            TakeoverAction::Own => {
                it.closed_by_successor = true;
                it.has_served = true;
            }
            // It starts without the inherited sockets, or is another successor next time.
            TakeoverAction::StartAfresh | TakeoverAction::AskAgain | TakeoverAction::Leave => {
                it.end();
            }
            TakeoverAction::Fail | TakeoverAction::LeaveAndFail => {
                it.has_failed = true;
                it.end();
            }
        }
    }

    /// What holds at every moment.
    fn check(&self) {
        let is_cut = self.connections.iter().any(|it| it.is_cut);
        let granted = |it: &&Connection| {
            it.process.is_alive && it.takeover == Successor::Starting || it.serves()
        };
        for (index, it) in self.connections.iter().enumerate() {
            let started_alone = it.takeover == Successor::StartingAlone
                || it.takeover == Successor::Owner && !it.was_granted;
            assert!(!started_alone || !self.predecessor.is_alive || is_cut);
            if granted(&it) {
                assert!(it.was_granted || started_alone, "serves without a grant");
            }
            let leaves =
                self.sockets == Sockets::Released(index) || it.offer == Predecessor::Releasing;
            if it.takeover == Successor::Owner && self.predecessor.is_alive && !is_cut {
                assert!(leaves, "both are owners");
            }
        }
        if !is_cut && self.predecessor.is_alive {
            let serving = self.connections.iter().filter(granted);
            // One whose grant was taken back has the word for it under way.
            let undisturbed = serving.filter(|it| !it.to_successor.contains(&ToSuccessor::Refused));
            assert!(undisturbed.count() <= 1, "two successors have a grant");
        }
        match self.sockets {
            Sockets::Kept | Sockets::Granted(_) => {
                assert!(
                    !self.predecessor.is_wanted() || self.predecessor_serves(),
                    "it has let go too early"
                );
            }
            Sockets::Released(to) => {
                let to = &self.connections[to];
                assert!(to.has_served, "released to one that does not serve");
                let serves = to.serves() || !to.process.is_wanted();
                assert!(serves, "nobody serves");
            }
        }
        // Told to end and sure of its sockets, the predecessor shuts them down.
        if self.predecessor.is_alive
            && self.predecessor.is_told_to_end
            && self.sockets == Sockets::Kept
            && !is_cut
        {
            let disturbed = self.connections.iter().filter(granted);
            let has_word = |it: &Connection| it.to_successor.contains(&ToSuccessor::Refused);
            assert!(disturbed.into_iter().all(has_word), "shuts down another's");
        }
    }

    /// What holds when nothing more happens by itself: nobody waits, and one serves.
    fn check_at_rest(&self) {
        let is_cut = self.connections.iter().any(|it| it.is_cut);
        for it in &self.connections {
            let is_over = it.offer == Predecessor::Over || !self.predecessor.is_alive;
            assert!(is_over, "the predecessor waits");
            let is_over = matches!(it.takeover, Successor::Owner | Successor::Over);
            assert!(is_over || !it.process.is_alive, "the successor waits");
            let is_blameless = !it.has_failed || it.offer != Predecessor::AwaitingHello;
            assert!(is_blameless || self.faults > 0, "it failed without a cause");
        }
        let serving = self.connections.iter().filter(|it| it.serves()).count()
            + usize::from(self.predecessor_serves());
        if self.predecessor.is_wanted() && self.sockets == Sockets::Kept {
            assert!(serving == 1 || serving > 1 && is_cut, "{serving} serve");
        }
        if self.faults == 0 {
            assert_eq!(serving, 1);
        }
    }
}

#[test]
fn with_every_pair_of_faults_in_every_order_one_server_serves() {
    let mut known = HashSet::from([World::new()]);
    // The way to a world, to explain a failure.
    let mut open = vec![(World::new(), Vec::new())];
    let mut at_rest = 0;
    while let Some((world, way)) = open.pop() {
        let explain = Explain(&world, &way);
        world.check();
        let steps = world.steps();
        if steps.is_empty() {
            at_rest += 1;
            world.check_at_rest();
        }
        for step in steps.into_iter().chain(world.faults()) {
            let mut next = world.clone();
            next.take(step);
            if known.insert(next.clone()) {
                let mut way = way.clone();
                way.push(step);
                open.push((next, way));
            }
        }
        drop(explain);
    }
    // The exploration is as wide as it is meant to be.
    assert!(known.len() > 10_000, "only {} worlds", known.len());
    assert!(at_rest > 100, "only {at_rest} ends");
}

/// Prints the way to a world that failed.
struct Explain<'a>(&'a World, &'a [Step]);

impl Drop for Explain<'_> {
    #[expect(clippy::print_stderr, reason = "the steps are what a failure needs")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {:#?}: {:#?}", self.1, self.0);
        }
    }
}

/// A successor that asks without any fault and without haste takes over.
#[test]
fn without_faults_the_successor_takes_over() {
    let mut world = World::new();
    world.connections[1].end();
    world.connections[1].offer = Predecessor::Over;
    for _ in 0..9 {
        let calm = |step: &Step| {
            let hasty = [OfferEvent::TimedOut, OfferEvent::Malformed];
            !matches!(step, Step::Offer(_, event) if hasty.contains(event))
                && !matches!(step, Step::Takeover(_, TakeoverEvent::TimedOut))
        };
        let Some(step) = world.steps().into_iter().find(calm) else {
            break;
        };
        world.take(step);
        world.check();
    }
    assert_eq!(world.sockets, Sockets::Released(0));
    assert!(world.connections[0].serves() && !world.predecessor_serves());
}
