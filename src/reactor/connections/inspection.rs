//! What the checks of the simulation see of the table.

use super::Connections;
use crate::conn::Conn;
use crate::net::stream::Stream;

impl<S: Stream> Connections<S> {
    /// Each connection with its key, for the checks of the simulation.
    pub(in crate::reactor) fn iter(&self) -> impl Iterator<Item = (usize, &Conn<S>)> {
        self.table.iter().map(|(key, entry)| (key, &entry.conn))
    }

    pub(in crate::reactor) fn get(&self, key: usize) -> Option<&Conn<S>> {
        self.table.get(key).map(|entry| &entry.conn)
    }

    /// Entries of a key in the run queue.
    pub(in crate::reactor) fn queue_entries(&self, key: usize) -> usize {
        self.run_queue.iter().filter(|&&it| it == key).count()
    }

    pub(in crate::reactor) fn memory_held(&self) -> usize {
        self.scratch.memory_held()
    }

    /// Bytes of the budget that sessions hold, and that are in hand for the next one.
    pub(in crate::reactor) fn tls_memory_held(&self) -> usize {
        let limited = self
            .table
            .iter()
            .filter_map(|(_, it)| it.limited.as_deref());
        let secured = limited.filter_map(|[it]| it.tls.as_deref());
        let held = secured.map(|[it]| it.held).sum::<usize>();
        held + self.lent.in_hand()
    }

    pub(in crate::reactor) fn refused_lingering(&self) -> usize {
        self.refused_lingering
    }

    /// The bytes that faults hold back, and what they cost.
    pub(in crate::reactor) fn held_back(&self) -> (usize, usize) {
        let limited = self.table.iter().filter_map(|(_, it)| it.limited.as_ref());
        let faulty = limited.filter_map(|it| it[0].faults.as_ref());
        faulty.fold((0, 0), |(len, cost), it| {
            let of_one = it[0].held_len_and_cost();
            (len + of_one.0, cost + of_one.1)
        })
    }
}
