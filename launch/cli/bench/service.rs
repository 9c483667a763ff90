//! Throughput of the scoring service beside the scorer alone: many clients on one machine, each on a
//! connection of its own that sends one completion and waits for its answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rewards::service::{Service, ServiceSetup};
use rewards::{ScoreJob, ScoreRow, ServiceConfig};
use serde_json::{Value, json};

use super::stats::median;
use crate::cli::CliFailure;

/// Alternating passes of both kinds over all of `sources`.
pub fn measure(sources: &[String], clients: usize, repeat: usize) -> Result<Value, CliFailure> {
    let (scorer, jobs) = trainer::bench::scoring_jobs(sources)?;
    let (served, _) = trainer::bench::scoring_jobs(sources)?;
    let service = Service::new(ServiceSetup {
        scorer: served,
        tasks: &trainer::bench::scoring_tasks(),
        config: ServiceConfig::default(),
        token: None,
    })?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(CliFailure::other)?;
    let address = listener.local_addr().map_err(CliFailure::other)?;
    // It runs as long as the program.
    std::thread::spawn(move || service.run(listener));
    let bodies = jobs.iter().map(body).collect::<Result<Vec<_>, _>>()?;
    let (mut alone, mut over_http, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    for pass in 0..=repeat {
        let started = Instant::now();
        scorer.score(jobs.clone());
        let inside = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let took = ask_all(address, &bodies, clients).map_err(CliFailure::other)?;
        let outside = started.elapsed().as_secs_f64();
        // The first pass fills the caches of references.
        if pass > 0 {
            alone.push(jobs.len() as f64 / inside);
            over_http.push(jobs.len() as f64 / outside);
            waits.extend(took);
        }
    }
    waits.sort_by(f64::total_cmp);
    let quantile = |q: f64| waits[((waits.len() - 1) as f64 * q) as usize] * 1e3;
    let ratios: Vec<f64> = alone.iter().zip(&over_http).map(|(a, b)| a / b).collect();
    Ok(json!({
        "completions": jobs.len(),
        "clients": clients,
        "in_process_per_s": median(&alone),
        "service_per_s": median(&over_http),
        "slowdown": median(&ratios),
        "service_p50_ms": quantile(0.5),
        "service_p99_ms": quantile(0.99),
    }))
}

fn body(job: &ScoreJob) -> Result<String, CliFailure> {
    let row = ScoreRow::of(job);
    let label = json!({"svg": row.reference.svg, "task": row.task});
    let body = json!({"prompt": "", "response": row.completion, "label": label});
    serde_json::to_string(&body).map_err(CliFailure::other)
}

/// Sends every body once; seconds that each took.
fn ask_all(address: SocketAddr, bodies: &[String], clients: usize) -> std::io::Result<Vec<f64>> {
    let next = AtomicUsize::new(0);
    let work = || -> std::io::Result<Vec<f64>> {
        let mut stream = BufReader::new(TcpStream::connect(address)?);
        stream.get_ref().set_nodelay(true)?;
        let mut took = Vec::new();
        while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
            let started = Instant::now();
            ask(&mut stream, body)?;
            took.push(started.elapsed().as_secs_f64());
        }
        Ok(took)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for thread in threads {
            let took = thread
                .join()
                .map_err(|_| std::io::Error::other("a client panicked"))?;
            all.extend(took?);
        }
        Ok(all)
    })
}

/// One request on a connection that stays open; the answer must be 200.
fn ask(stream: &mut BufReader<TcpStream>, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let request =
        format!("POST /score HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.get_mut().write_all(request.as_bytes())?;
    let (mut status, mut length, mut line) = (String::new(), 0, String::new());
    while stream.read_line(&mut line)? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        } else if status.is_empty() {
            status = lower;
        }
        line.clear();
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    match status.contains(" 200 ") {
        true => Ok(()),
        false => Err(std::io::Error::other(format!(
            "{}: {}",
            status.trim(),
            String::from_utf8_lossy(&answer)
        ))),
    }
}
