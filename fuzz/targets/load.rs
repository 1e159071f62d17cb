//! A rate and a distribution of sizes are the same however they are written out, and a rate's curve
//! comes back to the number of messages that it came from.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use loadgen::plan::sizes::Sizes;
use loadgen::profile::Profile;

fuzz_target!(|text: &str| {
    if let Ok(sizes) = text.parse::<Sizes>() {
        assert!((1..=sizes.most()).contains(&sizes.least()));
        assert_eq!(sizes.to_string().parse::<Sizes>().as_ref(), Ok(&sizes));
    }
    let Ok(profile) = text.parse::<Profile>() else {
        return;
    };
    let printed = profile.to_string();
    assert!(printed.parse::<Profile>().is_ok(), "{printed}");
    let Ok(curve) = profile.resolve(Duration::from_secs(1), Some(Duration::from_secs(10))) else {
        return;
    };
    let mut earlier = 0.0;
    for count in [0.0, 1.0, 2.0, 1000.0] {
        // A profile that falls silent may never come to so many.
        let Some(time_ns) = curve.time_ns(count) else {
            return;
        };
        assert!(time_ns >= earlier, "{printed}: {time_ns} after {earlier}");
        earlier = time_ns;
    }
});
