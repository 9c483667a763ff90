//! The render worker's program; all of it is `svg::worker`.
fn main() -> std::process::ExitCode {
    svg::worker::main()
}
