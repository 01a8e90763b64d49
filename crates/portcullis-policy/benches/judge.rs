//! How long a verdict takes: medians and 99th percentiles, printed beside what is to be reached.

use std::hint::black_box;
use std::time::{Duration, Instant};

use portcullis_core::{Limits, Policy as _, Principal, Submission};
use portcullis_policy::{Rulebook, RulebookPolicy};

fn main() {
    let hundred = policy(100);
    let usual = "grep -rn 'fn main' --include='*.rs' src | sort -u | head -n 20 > found.txt 2>&1";
    row("a usual line, 100 rules (10 µs, p99 50 µs)", 20_000, || judge(&hundred, usual));
    row("`ls -la`, 100 rules", 20_000, || judge(&hundred, "ls -la"));
    let sixty = vec!["cat a.txt"; 60].join(" && ");
    row("60 commands (300 µs)", 2_000, || judge(&hundred, &sixty));
    row("a denied line", 20_000, || judge(&hundred, "ls; sudo rm -rf /"));
    let many = policy(10_000);
    row("a usual line, 10,000 rules", 20_000, || judge(&many, usual));
    for bytes in [10, 100, 1_000, 10_000, 65_000] {
        let line = format!("echo {}", "word ".repeat(bytes / 5));
        row(&format!("a line of {bytes} bytes"), 500, || judge(&hundred, &line));
    }
    let text = rulebook(10_000);
    row("reading 10,000 rules (100 ms)", 5, || {
        black_box(Rulebook::parse(black_box(&text)).is_ok());
    });
}

fn rulebook(rules: usize) -> String {
    let mut text = String::from(
        "version = 1\n[[rule]]\nname = \"all\"\nprograms = [\"ls\", \"cat\", \"grep\", \"sort\", \"head\", \"echo\"]\n",
    );
    for at in 1..rules {
        text += &format!("[[rule]]\nname = \"{at}\"\nprograms = [\"ls\", \"wc\"]\nusers = [\"u{at}\"]\n");
    }
    text
}

fn policy(rules: usize) -> RulebookPolicy {
    let read = Rulebook::parse(&rulebook(rules));
    RulebookPolicy::new(read.unwrap_or_else(|error| panic!("{error}")), Limits::default())
}

fn judge(policy: &RulebookPolicy, line: &str) {
    let _ = black_box(policy.judge(&Principal::local(), &Submission::of(black_box(line))));
}

fn row(name: &str, times: usize, work: impl Fn()) {
    for _ in 0..times / 10 {
        work();
    }
    let mut taken: Vec<Duration> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    taken.sort_unstable();
    let at = |part: usize| taken.get(times * part / 100).copied().unwrap_or_default();
    println!("{name:<48} median {:>10.1?}   p99 {:>10.1?}", at(50), at(99));
}
