//! `echod`: from the command line to an exit code. The library does the rest.

use std::process::ExitCode;

use echomark::internal::{Certificates, Log, ReservingAllocator, serve};
use tracing::warn;

mod cli;

/// So that a lack of memory ends a scrape or a line of the log, and not the process.
#[global_allocator]
static ALLOCATOR: ReservingAllocator = ReservingAllocator;
mod healthcheck;

use cli::{Request, Task};

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(Request::Settings(cli)) => cli,
        Ok(Request::Document(text)) => return cli::show(&text),
        Err(error) => return cli::refuse(error),
    };
    let resolved = match cli.resolve() {
        Ok(resolved) => resolved,
        Err(mistake) => return cli::refuse_mistake(&mistake),
    };
    let certificates = match cli.task {
        Task::PrintConfig | Task::CheckHealth(_) => Ok(Certificates::default()),
        Task::CheckConfig | Task::Serve => Certificates::load(&resolved.settings),
    };
    let certificates = match certificates {
        Ok(certificates) => certificates,
        Err(problem) => return cli::refuse_mistake(&problem.into()),
    };
    let mut log = Log::start(resolved.settings.log_format, resolved.settings.log_level);
    if !resolved.unknown_variables.is_empty() {
        let names = resolved.unknown_variables.join(", ");
        warn!(
            names,
            "unknown environment variables with the prefix ECHOD_"
        );
    }
    let ended = match cli.task {
        Task::CheckConfig => cli::print("the configuration is valid\n"),
        Task::PrintConfig => cli::print(&resolved.to_toml()),
        Task::CheckHealth(probe) => return cli::check_health(&resolved.settings, probe),
        Task::Serve => {
            let resolve = move || cli.resolve_again().map_err(|mistake| mistake.to_string());
            serve(resolved, certificates, Box::new(resolve), &mut log)
                .map_err(|failure| failure.to_string())
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            log.say(format_args!("echod: {problem}"));
            ExitCode::FAILURE
        }
    }
}
