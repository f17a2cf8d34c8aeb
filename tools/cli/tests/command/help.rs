//! The help texts.

use crate::workspace::Workspace;

#[test]
fn every_command_has_a_description_and_an_example() {
    let workspace = Workspace::new();
    for command in [
        "ingest",
        "info",
        "fingerprint",
        "verify",
        "export",
        "components",
        "preview",
        "bench",
        "plan-layout",
        "demo",
        "completions",
        "man",
    ] {
        let help = workspace.ok(&format!("{command} --help")).out;
        assert!(help.contains("Usage: voxquarry"), "{help}");
        assert!(help.to_lowercase().contains("example"), "{help}");
        let all = workspace.ok("--help").out;
        assert!(all.contains(&format!("\n  {command} ")), "{all}");
    }
    let all = workspace.ok("--help").out;
    assert!(all.contains("Examples:") && all.contains("Exit codes: 0 success; 2"), "{all}");
    let version = workspace.ok("--version").out;
    assert_eq!(version, format!("voxquarry {}\n", env!("CARGO_PKG_VERSION")));
}
