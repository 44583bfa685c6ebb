//! The `hearth` binary as the integration tests run it: with the test switches compiled in.

fn main() -> std::process::ExitCode {
    hearth::main()
}
