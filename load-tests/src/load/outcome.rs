//! What a load gave: counts, and latencies in a histogram.

use super::calls::Calls;
use super::connection::Answer;
use hdrhistogram::Histogram;
use std::time::Duration;

pub struct Outcome {
    pub elapsed: Duration,
    /// Requests answered with success.
    pub ok: u64,
    /// Requests answered 503: too busy.
    pub busy: u64,
    /// What the answers counted for: events, verdicts, requests.
    pub done: u64,
    /// Bytes of the bodies answered with success.
    pub bytes: u64,
    /// Latencies in ns.
    pub latency: Histogram<u64>,
    /// Open loop: arrivals that were sent more than 1 ms after their instant, as all connections were waiting.
    pub late: u64,
    /// Open loop: arrivals that were not sent at all before the time was up. Their wait until then is in the latencies.
    pub unsent: u64,
    /// What was done in each second.
    pub seconds: Vec<u64>,
}

impl Outcome {
    pub fn new() -> Self {
        let latency = Histogram::new(3).expect("three digits are allowed");
        let elapsed = Duration::ZERO;
        Self { elapsed, ok: 0, busy: 0, done: 0, bytes: 0, latency, late: 0, unsent: 0, seconds: Vec::new() }
    }

    /// Counts an answer. One that is neither success nor 503 ends the load: it measures something else.
    pub fn answered(
        &mut self,
        calls: &mut impl Calls,
        answer: &Answer<'_>,
        latency: Duration,
        at: Duration,
    ) -> anyhow::Result<()> {
        self.latency.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX))?;
        match answer.status {
            200..300 => {
                let done = calls.done(answer.body);
                self.ok += 1;
                self.done += done;
                self.bytes += answer.body.len() as u64;
                let second = at.as_secs() as usize;
                if self.seconds.len() <= second {
                    self.seconds.resize(second + 1, 0);
                }
                self.seconds[second] += done;
            }
            503 => self.busy += 1,
            status => anyhow::bail!("answered {status}: {}", String::from_utf8_lossy(answer.body)),
        }
        Ok(())
    }

    pub fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.ok += other.ok;
        self.busy += other.busy;
        self.done += other.done;
        self.bytes += other.bytes;
        self.late += other.late;
        self.unsent += other.unsent;
        self.latency.add(&other.latency)?;
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), 0);
        }
        for (mine, theirs) in self.seconds.iter_mut().zip(other.seconds) {
            *mine += theirs;
        }
        Ok(())
    }

    pub fn per_second(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this share of requests kept below, in ms.
    pub fn ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }

    /// Bytes of a body, on average.
    pub fn body_bytes(&self) -> u64 {
        self.bytes.checked_div(self.ok).unwrap_or(0)
    }

    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "seconds": self.elapsed.as_secs_f64(), "requests": self.ok, "busy": self.busy,
            "done": self.done, "per_second": self.per_second(), "body_bytes": self.body_bytes(),
            "late": self.late, "unsent": self.unsent,
            "p50_ms": self.ms(0.5), "p99_ms": self.ms(0.99), "p999_ms": self.ms(0.999), "max_ms": self.ms(1.0),
        })
    }

    pub fn to_line(&self) -> String {
        format!(
            "{:>12.0}/s   {} requests in {:.1} s, {} busy, {} late, {} unsent   p50 {:.3} ms  p99 {:.3} ms  p99.9 {:.3} ms",
            self.per_second(),
            self.ok,
            self.elapsed.as_secs_f64(),
            self.busy,
            self.late,
            self.unsent,
            self.ms(0.5),
            self.ms(0.99),
            self.ms(0.999),
        )
    }
}
