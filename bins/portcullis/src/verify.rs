//! `verify`: does a running service keep its main promises? Six checks, as any caller would make them.

mod checks;
mod probe;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ending::seconds;
use crate::failure::{EXIT_NO, Failure};
use crate::service::Service;
use crate::show::{print, print_json};
use crate::terminal::{Colour, plain};

use probe::Probe;

/// What a check found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What a service that keeps its promises does.
    expected: String,
    /// What this one did.
    came: String,
    /// What to do about it.
    mend: String,
    /// Whether nothing else can be tried either.
    hopeless: bool,
}

/// The result of one check.
struct Checked {
    name: &'static str,
    took: Duration,
    result: Result<String, Trouble>,
}

/// Runs the six checks, printing each as it ends; the exit code is 1 when one fails.
pub(crate) async fn verify(service: &Service, as_json: bool, colour: Colour) -> Result<ExitCode, Failure> {
    let probe = Probe::new(service);
    let mut all = Vec::new();
    for check in checks::ALL {
        let began = Instant::now();
        let hopeless =
            all.iter().any(|checked: &Checked| matches!(&checked.result, Err(trouble) if trouble.hopeless));
        let result = if hopeless { Err(not_tried()) } else { check.run(&probe).await };
        let checked = Checked { name: check.name(), took: began.elapsed(), result };
        if !as_json {
            print(&draw(&checked, colour))?;
        }
        all.push(checked);
    }
    let passed = all.iter().filter(|checked| checked.result.is_ok()).count();
    if as_json {
        print_json(&json!({
            "url": service.client().base().to_string(),
            "passed": passed == all.len(),
            "checks": all.iter().map(to_json).collect::<Vec<_>>(),
        }))?;
    } else {
        let verdict = format!("{passed} of {} checks passed", all.len());
        let verdict = colour.paint(if passed == all.len() { "1;32" } else { "1;31" }, &verdict);
        print(&format!("{verdict} at {}\n", service.client().base()))?;
    }
    Ok(if passed == all.len() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

fn not_tried() -> Trouble {
    Trouble {
        expected: "a service that can be asked".into(),
        came: "not tried, since the checks above could not reach it".into(),
        mend: "mend what is above first".into(),
        hopeless: true,
    }
}

fn draw(checked: &Checked, colour: Colour) -> String {
    let took = seconds(u64::try_from(checked.took.as_millis()).unwrap_or(u64::MAX));
    let head = |mark: String| format!("{mark}  {:<16} {took:>8}", checked.name);
    match &checked.result {
        Ok(found) => format!("{}  {}\n", head(colour.paint("32", "ok  ")), plain(found)),
        Err(trouble) => format!(
            "{}\n      expected  {}\n      came      {}\n      to mend   {}\n",
            head(colour.paint("1;31", "FAIL")),
            plain(&trouble.expected),
            plain(&trouble.came),
            plain(&trouble.mend),
        ),
    }
}

fn to_json(checked: &Checked) -> Value {
    let mut value = json!({
        "name": checked.name,
        "passed": checked.result.is_ok(),
        "milliseconds": u64::try_from(checked.took.as_millis()).unwrap_or(u64::MAX),
    });
    if let Some(members) = value.as_object_mut() {
        match &checked.result {
            Ok(found) => {
                members.insert("found".into(), found.as_str().into());
            }
            Err(trouble) => {
                members.insert("expected".into(), trouble.expected.as_str().into());
                members.insert("came".into(), trouble.came.as_str().into());
                members.insert("mend".into(), trouble.mend.as_str().into());
            }
        }
    }
    value
}
