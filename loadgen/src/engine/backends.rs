//! What a thread knows of the servers behind its targets, by the greetings of its connections.

use std::collections::HashMap;

use hdrhistogram::Histogram;

use super::histogram::{BucketCounts, Distribution};

/// The servers that greeted.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    numbers: HashMap<Box<str>, usize>,
    records: Vec<Backend>,
}

/// The connections and messages of one of them.
#[derive(Debug)]
struct Backend {
    connections: u64,
    messages: u64,
    response: Box<BucketCounts>,
}

/// The same as a report.
#[derive(Clone, Debug)]
pub(crate) struct BackendReport {
    pub(crate) id: Box<str>,
    /// Those that were established, set-up and warm-up included.
    pub(crate) connections: u64,
    /// Those of the window.
    pub(crate) messages: u64,
    pub(crate) response: Histogram<u64>,
}

impl Backends {
    /// Notes a connection with this greeting, and returns the number of its server.
    pub(crate) fn enter(&mut self, greeting: Option<&str>) -> usize {
        let id = id_of(greeting.unwrap_or_default());
        let number = match self.numbers.get(&id) {
            Some(&number) => number,
            None => {
                let number = self.records.len();
                self.records.push(Backend {
                    connections: 0,
                    messages: 0,
                    response: Box::new(BucketCounts::empty()),
                });
                self.numbers.insert(id, number);
                number
            }
        };
        self.records[number].connections += 1;
        number
    }

    /// Records a message of a server.
    #[inline]
    pub(crate) fn record(&mut self, number: usize, response_ns: u64) {
        if let Some(backend) = self.records.get_mut(number) {
            backend.messages += 1;
            backend.response.record(response_ns);
        }
    }

    /// What was recorded.
    pub(crate) fn reports(&mut self) -> Vec<BackendReport> {
        let numbers = std::mem::take(&mut self.numbers);
        let reports = numbers.into_iter().map(|(id, number)| {
            let backend = &self.records[number];
            let mut response = Histogram::empty();
            backend.response.add_onto(&mut response);
            BackendReport {
                id,
                connections: backend.connections,
                messages: backend.messages,
                response,
            }
        });
        reports.collect()
    }
}

/// The name of the server in its greeting: what `echod --whoami` says is its pod or its host, else the
/// whole line.
fn id_of(greeting: &str) -> Box<str> {
    let line: Option<serde_json::Value> = serde_json::from_str(greeting).ok();
    let name = line.as_ref().and_then(|line| {
        let pod = line["env"]["POD_NAME"].as_str();
        pod.or_else(|| line["host"].as_str())
    });
    name.unwrap_or(greeting).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_called_as_its_greeting_says() {
        for (greeting, id) in [
            (r#"{"host":"node","env":{"POD_NAME":"pod-1"}}"#, "pod-1"),
            (r#"{"host":"node","env":{}}"#, "node"),
            ("220 mail.example.org", "220 mail.example.org"),
            (r#"{"name":"else"}"#, r#"{"name":"else"}"#),
        ] {
            assert_eq!(&*id_of(greeting), id);
        }
    }

    #[test]
    fn connections_and_messages_are_told_apart() {
        let mut backends = Backends::default();
        let numbers = ["a", "b", "a"].map(|it| backends.enter(Some(it)));
        assert_eq!(numbers, [0, 1, 0]);
        backends.record(0, 1_000);
        backends.record(1, 5_000);
        backends.record(1, 7_000);
        let mut reports = backends.reports();
        reports.sort_by(|a, b| a.id.cmp(&b.id));
        let counts = |it: &BackendReport| (it.connections, it.messages, it.response.len());
        assert_eq!(
            reports.iter().map(counts).collect::<Vec<_>>(),
            [(2, 1, 1), (1, 2, 2)]
        );
    }
}
