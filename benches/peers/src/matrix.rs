//! The whole matrix: what is measured by one command where nothing is left to choose. Pure.

use crate::load::{Shape, Workload};

/// Messages in flight, over all connections, are bounded to this many bytes: beyond, it is the
/// kernel's memory that is measured.
pub const IN_FLIGHT_MAX: usize = 256 << 20;

/// Every cell that is measured, and how many were left out by [`IN_FLIGHT_MAX`].
#[must_use]
pub fn cells(connections_max: usize) -> (Vec<(Workload, Shape)>, usize) {
    let mut cells = Vec::new();
    let mut left_out = 0;
    for connections in [1, 50, 1000, 10_000] {
        for size in [64, 1 << 10, 16 << 10, 256 << 10] {
            for depth in [1, 16] {
                let shape = Shape {
                    connections,
                    size,
                    depth,
                };
                match shape.in_flight() <= IN_FLIGHT_MAX && connections <= connections_max {
                    true => cells.push((Workload::Echo, shape)),
                    false => left_out += 1,
                }
            }
        }
    }
    for workload in Workload::ALL {
        if workload != Workload::Echo {
            let mut shape = workload.usual_shape();
            shape.connections = shape.connections.min(connections_max);
            cells.push((workload, shape));
        }
    }
    (cells, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_every_dimension_is_in_it() {
        let (cells, left_out) = cells(usize::MAX);
        // 10 000 x 256 KiB at both depths, 10 000 x 16 KiB x 16 and 1000 x 256 KiB x 16.
        assert_eq!((cells.len(), left_out), (32 - 4 + 6, 4));
        for workload in Workload::ALL {
            assert!(cells.iter().any(|(w, _)| *w == workload), "{workload}");
        }
        assert!(
            cells
                .iter()
                .any(|(_, s)| s.connections == 10_000 && s.size == 16 << 10)
        );
        assert!(
            cells
                .iter()
                .any(|(_, s)| s.size == 256 << 10 && s.depth == 16)
        );
    }

    #[test]
    fn no_cell_has_more_connections_than_there_may_be() {
        let (cells, _) = cells(900);
        assert!(cells.iter().all(|(_, s)| s.connections <= 900));
    }
}
