//! Which of several processes this one is, by the variables of its launcher.

use std::num::NonZeroUsize;

/// The variable that says how many processes there are where a launcher doesn't.
const SIZE: &str = "LOADGEN_SIZE";

/// A launcher of processes.
#[derive(Debug)]
struct Launcher {
    /// The variable with the rank,
    rank: &'static str,
    /// the number of the first process in it,
    first: usize,
    /// and the variable with the number of processes, if there is one.
    size: Option<&'static str>,
    /// Whether it starts the processes of an MPI program. Such a launcher may itself be started by
    /// another one, whose variables it passes on: those of a Slurm batch script are in each process of
    /// the mpirun there.
    is_mpi: bool,
}

const LAUNCHERS: [Launcher; 6] = [
    Launcher {
        rank: "OMPI_COMM_WORLD_RANK",
        first: 0,
        size: Some("OMPI_COMM_WORLD_SIZE"),
        is_mpi: true,
    },
    Launcher {
        rank: "PMIX_RANK",
        first: 0,
        size: None,
        is_mpi: true,
    },
    Launcher {
        rank: "PMI_RANK",
        first: 0,
        size: Some("PMI_SIZE"),
        is_mpi: true,
    },
    // A Kubernetes Job with completionMode: Indexed.
    Launcher {
        rank: "JOB_COMPLETION_INDEX",
        first: 0,
        size: None,
        is_mpi: false,
    },
    Launcher {
        rank: "SLURM_PROCID",
        first: 0,
        size: Some("SLURM_NTASKS"),
        is_mpi: false,
    },
    // GNU parallel.
    Launcher {
        rank: "PARALLEL_SEQ",
        first: 1,
        size: None,
        is_mpi: false,
    },
];

/// What a launcher says.
#[derive(Debug)]
struct Told {
    launcher: &'static Launcher,
    rank: usize,
    size: Option<NonZeroUsize>,
}

/// The rank of this process, and the number of processes: the given one if the launcher doesn't say it.
///
/// # Errors
/// One line for the user: what is missing, or what contradicts, and the way out.
pub(super) fn rank_and_size(
    given: Option<NonZeroUsize>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(usize, NonZeroUsize), String> {
    let mut told = Vec::new();
    for launcher in &LAUNCHERS {
        told.extend(launcher.ask(variable)?);
    }
    let Some(first) = told.first() else {
        let names = LAUNCHERS.map(|launcher| launcher.rank).join(", ");
        return Err(format!(
            "--rank auto needs a launcher, and none of its variables is set ({names}); write --rank 0/3"
        ));
    };
    let others = told.iter().filter(|other| !other.launcher.is_mpi);
    if !first.launcher.is_mpi
        && let Some(other) = others.into_iter().find(|other| other.rank != first.rank)
    {
        return Err(format!(
            "{} says rank {} and {} says rank {}; write --rank {}/N or --rank {}/N",
            first.launcher.rank,
            first.rank,
            other.launcher.rank,
            other.rank,
            first.rank,
            other.rank
        ));
    }
    let asked = match (given, variable(SIZE)) {
        (Some(given), _) => Some((given, "--rank auto/N".to_owned())),
        (None, Some(text)) => Some((number(SIZE, &text)?, SIZE.to_owned())),
        (None, None) => None,
    };
    let size = size_of(first, &told, asked)?;
    if first.rank >= size.get() {
        return Err(format!(
            "{} says rank {}, and of {size} shards the last is {}; the number of shards is wrong",
            first.launcher.rank,
            first.rank,
            size.get() - 1
        ));
    }
    Ok((first.rank, size))
}

/// The number of processes: as asked for, which must not contradict the launcher, or as it says itself.
fn size_of(
    first: &Told,
    told: &[Told],
    asked: Option<(NonZeroUsize, String)>,
) -> Result<NonZeroUsize, String> {
    // PMIx doesn't say it, but Slurm, whose srun it may be.
    let is_of_the_same = |other: &&Told| other.rank == first.rank;
    let sizes = told.iter().filter(is_of_the_same);
    let known = first.size.or_else(|| sizes.filter_map(|it| it.size).next());
    match (asked, known) {
        (Some((asked, by)), Some(known)) if asked != known => Err(format!(
            "{by} says {asked} shards, and the launcher (see {}) {known}; leave {by} out",
            first.launcher.rank
        )),
        (Some((asked, _)), _) => Ok(asked),
        (None, Some(known)) => Ok(known),
        (None, None) => Err(format!(
            "{} says rank {}, and nothing says of how many shards; write --rank auto/N, or set {SIZE}=N",
            first.launcher.rank, first.rank
        )),
    }
}

impl Launcher {
    /// What it says, if it has started this process.
    fn ask(
        &'static self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Told>, String> {
        let Some(text) = variable(self.rank) else {
            return Ok(None);
        };
        let rank = text.trim().parse::<usize>().ok();
        let rank = rank.and_then(|rank| rank.checked_sub(self.first));
        let rank = rank.ok_or_else(|| {
            format!(
                "{} is `{text}`, which is no rank; write --rank I/N",
                self.rank
            )
        })?;
        let size = self.size.and_then(|name| Some((name, variable(name)?)));
        Ok(Some(Told {
            launcher: self,
            rank,
            size: size.map(|(name, text)| number(name, &text)).transpose()?,
        }))
    }
}

fn number(name: &str, text: &str) -> Result<NonZeroUsize, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{name} is `{text}`, which is no number of shards; write --rank I/N"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(given: Option<usize>, variables: &[(&str, &str)]) -> Result<(usize, usize), String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let given = given.map(|given| NonZeroUsize::new(given).unwrap());
        rank_and_size(given, &variable).map(|(rank, size)| (rank, size.get()))
    }

    #[test]
    fn each_launcher_is_understood() {
        for (given, variables, expected) in [
            (
                None,
                &[("SLURM_PROCID", "2"), ("SLURM_NTASKS", "3")][..],
                (2, 3),
            ),
            (
                None,
                &[("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "3")],
                (1, 3),
            ),
            (None, &[("PMI_RANK", "0"), ("PMI_SIZE", "2")], (0, 2)),
            (Some(4), &[("PMIX_RANK", "3")], (3, 4)),
            (Some(3), &[("JOB_COMPLETION_INDEX", "2")], (2, 3)),
            (
                None,
                &[("JOB_COMPLETION_INDEX", "2"), ("LOADGEN_SIZE", "3")],
                (2, 3),
            ),
            // It counts from 1.
            (Some(3), &[("PARALLEL_SEQ", "3")], (2, 3)),
            (
                None,
                &[
                    ("PMIX_RANK", "1"),
                    ("SLURM_PROCID", "1"),
                    ("SLURM_NTASKS", "3"),
                ],
                (1, 3),
            ),
            // mpirun in a batch script, whose own rank is 0.
            (
                None,
                &[
                    ("OMPI_COMM_WORLD_RANK", "2"),
                    ("OMPI_COMM_WORLD_SIZE", "3"),
                    ("SLURM_PROCID", "0"),
                    ("SLURM_NTASKS", "3"),
                ],
                (2, 3),
            ),
        ] {
            assert_eq!(ask(given, variables), Ok(expected), "{variables:?}");
        }
    }

    #[test]
    fn what_a_launcher_does_not_say_is_refused_with_the_way_out() {
        for (given, variables, words) in [
            (None, &[][..], "write --rank 0/3"),
            (None, &[("JOB_COMPLETION_INDEX", "1")], "LOADGEN_SIZE=N"),
            (None, &[("PMIX_RANK", "1")], "--rank auto/N"),
            (None, &[("PARALLEL_SEQ", "0")], "`0`, which is no rank"),
            (None, &[("SLURM_PROCID", "x")], "`x`, which is no rank"),
            (
                None,
                &[("PMI_RANK", "1"), ("PMI_SIZE", "0")],
                "no number of shards",
            ),
            (Some(2), &[("JOB_COMPLETION_INDEX", "2")], "the last is 1"),
            (
                Some(2),
                &[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "3")],
                "leave --rank auto/N out",
            ),
            (
                Some(3),
                &[("JOB_COMPLETION_INDEX", "1"), ("SLURM_PROCID", "2")],
                "write --rank 1/N or --rank 2/N",
            ),
        ] {
            let problem = ask(given, variables).unwrap_err();
            assert!(problem.contains(words), "{variables:?}: {problem}");
        }
    }
}
