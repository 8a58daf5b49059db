//! `topology-gen probe`: this tray.
#![forbid(unsafe_code)]

use std::time::Duration;

use fabric::{Blame, GpuReading, TrayReading, Verdict};
use serde::Serialize;

use super::Output;
use crate::failure::{Failure, OK, PROBLEMS};
use crate::source::{extra, nvml};

/// Options of `probe`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one line for `slurmd --extra` instead of the full reading
    #[arg(long)]
    extra: bool,
    /// GPUs this tray should have; fewer are a fault
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    expect_gpus: Option<u32>,
    /// Longest time to wait for the driver, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

#[derive(Serialize)]
struct Probe<'a> {
    driver_version: &'a str,
    gpus: Vec<Gpu<'a>>,
    judgement: &'a Verdict,
}

#[derive(Serialize)]
struct Gpu<'a> {
    #[serde(flatten)]
    gpu: &'a GpuReading,
    /// State and health in words; not read back.
    words: String,
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let reading = nvml::read_tray(Duration::from_secs(args.timeout))
        .map_err(|error| Failure::of(Blame::Node, &error).hint(error.hint()))?;
    answer(&reading, args, output)
}

fn answer(reading: &TrayReading, args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let judgement = reading.judge(args.expect_gpus);
    let text = if args.extra { extra::write(reading) + "\n" } else { full(reading, &judgement)? };
    output.data(&text)?;
    match &judgement {
        Verdict::Member { warnings, .. } => {
            for warning in warnings {
                output.say(format_args!("warning: {warning}"));
            }
            Ok(OK)
        }
        Verdict::NoFabric { why } => {
            output.say(format_args!("this tray is in no NVLink partition: {why}"));
            Ok(PROBLEMS)
        }
        Verdict::Rejected { why } => {
            output.say(format_args!("this tray has no usable NVLink partition: {why}"));
            Ok(PROBLEMS)
        }
    }
}

fn full(reading: &TrayReading, judgement: &Verdict) -> Result<String, Failure> {
    let gpus = reading.gpus.iter().map(|gpu| Gpu { gpu, words: words(gpu) }).collect();
    let probe = Probe { driver_version: &reading.driver_version, gpus, judgement };
    let text = serde_json::to_string_pretty(&probe).map_err(|error| Failure::of(Blame::Bug, &error))?;
    Ok(text + "\n")
}

fn words(gpu: &GpuReading) -> String {
    let Some(fabric) = &gpu.fabric else { return "no fabric query".into() };
    let mut words = vec![fabric.state.to_string()];
    words.extend(fabric.health.words());
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: &str = r#"{"driver_version":"580.95.05","gpus":[{"index":0,"uuid":"GPU-1","name":"NVIDIA GB200 (simulated)",
        "fabric":{"domain":"7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f","partition":32766,"state":3,"status":0,"health":{"mask":169,"summary":3}}}]}"#;

    fn answered(args: &Args) -> (u8, String, String) {
        let (mut data, mut words) = (Vec::new(), Vec::new());
        let mut output = Output { data: &mut data, words: &mut words, screen: Default::default() };
        let code = answer(&serde_json::from_str(READING).unwrap(), args, &mut output).unwrap();
        (code, String::from_utf8(data).unwrap(), String::from_utf8(words).unwrap())
    }

    #[test]
    fn a_member_with_a_fault_is_told_in_words_and_numbers() {
        let (code, data, words) = answered(&Args { extra: false, expect_gpus: None, timeout: 1 });
        assert_eq!(code, OK);
        insta::assert_snapshot!(data, @r#"
        {
          "driver_version": "580.95.05",
          "gpus": [
            {
              "index": 0,
              "uuid": "GPU-1",
              "name": "NVIDIA GB200 (simulated)",
              "fabric": {
                "domain": "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f",
                "partition": 32766,
                "state": 3,
                "status": 0,
                "health": {
                  "mask": 169,
                  "summary": 3
                }
              },
              "words": "completed, limited capacity, bandwidth degraded, no route recovery, route healthy, no access timeout recovery"
            }
          ],
          "judgement": {
            "verdict": "member",
            "id": "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f.32766",
            "gpus": 1,
            "warnings": [
              "GPU 0 (GPU-1): limited capacity, bandwidth degraded"
            ]
          }
        }
        "#);
        insta::assert_snapshot!(words, @r#"topology-gen: warning: GPU 0 (GPU-1): limited capacity, bandwidth degraded"#);
        let read: TrayReading = serde_json::from_str(&data).unwrap();
        assert_eq!(read, serde_json::from_str(READING).unwrap());
    }

    #[test]
    fn a_lost_gpu_is_a_problem_and_the_facts_still_come_out() {
        let (code, data, words) = answered(&Args { extra: true, expect_gpus: Some(4), timeout: 1 });
        assert_eq!(code, PROBLEMS);
        assert!(
            data.starts_with(r#"{"nvlink":{"v":1,"#) && data.ends_with("}\n") && data.lines().count() == 1,
            "{data}"
        );
        assert_eq!(words, "topology-gen: this tray has no usable NVLink partition: 1 of 4 GPUs answer\n");
    }
}
