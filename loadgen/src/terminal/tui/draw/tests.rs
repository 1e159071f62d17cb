use std::time::{Duration, Instant};

use loadgen::Plan;
use loadgen::observer::Phase;
use loadgen::plan::Direction;
use loadgen::result::histogram;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::*;
use crate::terminal::live_state::LiveState;
use crate::terminal::live_state::tests::{plan, update};

/// What a screen of this size shows, line by line, and its colours.
fn screen(
    (width, height): (u16, u16),
    state: &LiveState,
    plan: &Plan,
    palette: &Palette,
) -> (Vec<String>, Vec<Color>) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let target = loadgen::report::words::target(plan);
    let load = loadgen::report::words::load(plan);
    terminal
        .draw(|frame| {
            draw(
                frame,
                &View {
                    state,
                    now: Instant::now(),
                    plan,
                    target: &target,
                    load: &load,
                    asked: plan.target_rate(),
                    is_stream: plan.direction().is_some(),
                    is_one_way: matches!(plan.direction(), Some(Direction::Up | Direction::Down)),
                    is_ending: false,
                    is_frozen: false,
                    palette,
                },
            );
        })
        .unwrap();
    let cells = &terminal.backend().buffer().content;
    let lines = cells
        .chunks(usize::from(width))
        .map(|line| line.iter().map(|cell| cell.symbol()).collect())
        .collect();
    (lines, cells.iter().map(|cell| cell.fg).collect())
}

/// Three seconds of a run of `plan`.
fn state(plan: &Plan) -> LiveState {
    let start = Instant::now();
    let mut state = LiveState::new(plan, start);
    for second in 0..3 {
        let mut latency = histogram::empty();
        for step in 1..=5_000 {
            latency.record(20_000 + step * 400).unwrap();
        }
        let mut update = update(start, second, 5_000, &latency);
        let totals = update.totals.as_mut().unwrap();
        totals.counts.lost = 7;
        totals.counts.failed = 3;
        totals.send_lag_p99_ns = Some(12_300);
        state.take(update);
    }
    state
}

#[track_caller]
fn assert_shows(lines: &[String], words: &[&str]) {
    let screen = lines.join("\n");
    for word in words {
        assert!(screen.contains(word), "{word:?} is not in\n{screen}");
    }
}

#[test]
fn all_that_counts_is_on_the_usual_and_on_a_large_terminal() {
    let plan = plan("tcp://127.0.0.1:7 -R 5k -c 50 -d 10s");
    let state = state(&plan);
    for size in [(80, 24), (200, 50)] {
        let (lines, _) = screen(size, &state, &plan, &Palette::colored());
        assert_shows(
            &lines,
            &[
                "tcp://127.0.0.1:7",
                "open loop, 5 000 /s constant, 50 connections",
                "measuring",
                "of 10.0 s",
                "echoes per second",
                "5 000│",
                "10 ms│",
                "response times so far",
                "now 5 000 /s   target 5 000 /s",
                "p50 1.02 ms",
                "p99.9 –",
                "max 2.02 ms",
                "sent 5 000   received 5 000",
                "lost 7",
                "failed 3",
                "verdict   so far SUSPECT (missing)",
                "lag p99 12.3 µs, 0.61 % of the latency",
                "q end   + - rate ±10 %   * / rate ×2 ÷2   p freeze",
            ],
        );
    }
}

#[test]
fn a_closed_loop_has_no_rate_to_change_and_a_stream_no_latency() {
    let closed = plan("tcp://127.0.0.1:7 -c 50");
    let (lines, _) = screen((80, 24), &state(&closed), &closed, &Palette::plain());
    assert!(!lines.iter().any(|line| line.contains("rate ±")));
    assert_shows(&lines, &["closed loop, 1 in flight", "q end   p freeze"]);
    let stream = plan("tcp://127.0.0.1:7 --workload stream --direction up");
    let mut state = LiveState::new(&stream, Instant::now());
    state.take(update(Instant::now(), 0, 1_000_000, &histogram::empty()));
    let (lines, _) = screen((80, 24), &state, &stream, &Palette::plain());
    assert_shows(&lines, &["now 512.00 Mbit/s", "600 Mbit/s│"]);
    assert!(!lines.iter().any(|line| line.contains("response time")));
}

#[test]
fn before_the_window_the_screen_says_that_there_is_nothing_yet() {
    let plan = plan("-R 5k");
    let state = LiveState::new(&plan, Instant::now());
    let (lines, _) = screen((80, 24), &state, &plan, &Palette::plain());
    assert_shows(&lines, &["connecting", "nothing is measured yet", "now –"]);
}

#[test]
fn without_colours_there_are_none() {
    let plan = plan("-R 5k");
    let state = state(&plan);
    let is_colored = |palette: &Palette| {
        let (_, colors) = screen((80, 24), &state, &plan, palette);
        colors.iter().any(|color| *color != Color::Reset)
    };
    assert!(is_colored(&Palette::colored()));
    assert!(!is_colored(&Palette::plain()));
}

proptest! {
    #[test]
    fn any_run_can_be_drawn_on_any_terminal(
        width in 1_u16..=300,
        height in 1_u16..=100,
        seconds in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u64>(), 0..30)), 0..5),
        arguments in prop::sample::select(vec!["-R 5k", "-c 1", "-c 1 -n 10 --repeat 2", "--workload stream"]),
        phase in prop::sample::select(vec![
            Phase::Connecting,
            Phase::WarmingUp(Duration::ZERO),
            Phase::Measuring(None),
            Phase::Draining,
        ]),
    ) {
        let plan = plan(arguments);
        let start = Instant::now();
        let mut state = LiveState::new(&plan, start);
        for (second, (completed, latencies)) in (0..).zip(seconds) {
            let mut histogram = histogram::empty();
            for latency in latencies {
                histogram.saturating_record(latency);
            }
            let mut update = update(start, second, completed.into(), &histogram);
            update.phase = phase;
            state.take(update);
        }
        let (lines, _) = screen((width, height), &state, &plan, &Palette::colored());
        prop_assert_eq!(lines.len(), usize::from(height));
    }
}
