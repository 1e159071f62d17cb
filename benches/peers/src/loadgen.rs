//! One run of loadgen.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::client::{Service, Shape, Workload};
use crate::process;
use crate::server::Watcher;
use crate::sys;

/// What is asked of loadgen.
pub(crate) struct Run<'a> {
    /// The program, and options that come last.
    pub(crate) program: &'a [String],
    pub(crate) target: SocketAddr,
    pub(crate) workload: Workload,
    pub(crate) shape: Shape,
    pub(crate) threads: usize,
    /// When it ends, as an option.
    pub(crate) length: [String; 2],
    pub(crate) cpus: &'a [usize],
}

/// Runs loadgen and returns its processor time in seconds and its result. An error quotes what it wrote.
pub(crate) fn run(run: &Run<'_>, watcher: &Watcher) -> io::Result<(f64, Value)> {
    let (json, errors) = (NamedTempFile::new()?, NamedTempFile::new()?);
    let scheme = match run.workload.service() {
        Service::Echo | Service::Discard => "tcp",
        Service::UdpEcho => "udp",
        Service::TlsEcho => "tls",
    };
    let depth = run.shape.depth;
    let workload = match run.workload {
        // Source addresses in number, so that ports do not run out.
        Workload::Churn => "--workload churn --source 127.1.0.0/22".to_owned(),
        Workload::Stream => format!("--workload stream -p {depth}"),
        Workload::Discard => format!("--workload stream --direction up -p {depth}"),
        Workload::Idle | Workload::TlsIdle => {
            return Err(io::Error::other("loadgen has no such workload"));
        }
        Workload::Echo | Workload::Udp | Workload::UdpBulk => format!("-p {depth}"),
        Workload::TlsEcho => format!("-p {depth} --tls-insecure"),
        Workload::TlsStream => format!("--workload stream -p {depth} --tls-insecure"),
        Workload::TlsFull | Workload::TlsResumed => {
            let resumption = match run.workload {
                Workload::TlsFull => "--no-resumption",
                _ => "",
            };
            format!("--workload churn --source 127.1.0.0/22 --tls-insecure {resumption}")
        }
    };
    let (target, threads) = (run.target, run.threads);
    let (connections, size) = (run.shape.connections, run.shape.size);
    let options = format!(
        "run {scheme}://{target} -t {threads} -c {connections} -s {size} -w 0 {workload} \
         --allow-invalid --json"
    );
    let mut words = [watcher.words(), run.program[..1].to_vec()].concat();
    words.extend(options.split_whitespace().map(String::from));
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .arg(json.path())
        .args(&run.length)
        .args(&run.program[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(errors.path())?);
    process::pin_command(&mut command, run.cpus);
    let cannot_run = |e| io::Error::other(format!("cannot run {}: {e}", words[0]));
    let mut child = command.spawn().map_err(cannot_run)?;
    // The clock of a process can be read until it is waited for.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_child(&child)), ended)?;
    let cpu = sys::cpu_time(child.id())?.as_secs_f64();
    let status = child.wait()?;
    if !status.success() {
        let why = fs::read_to_string(errors.path())?;
        return Err(io::Error::other(format!("{status}\n{why}").trim()));
    }
    Ok((
        cpu,
        serde_json::from_str(&fs::read_to_string(json.path())?)?,
    ))
}
