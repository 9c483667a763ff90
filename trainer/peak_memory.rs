//! What this process, or its GPU, has needed at most.

use tch::Device;

/// The largest memory so far: the GPU allocator's, or this process's resident set.
pub fn peak_memory_gib(device: Device) -> f64 {
    const GIB: f64 = (1u64 << 30) as f64;
    if let Ok(Some(stats)) = torch_ext::memory_stats(device) {
        return stats.peak_allocated as f64 / GIB;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0.0) * 1024.0 / GIB
}
