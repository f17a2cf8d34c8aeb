//! Help that teaches.

use crate::world::World;

#[test]
fn every_command_says_what_it_does_and_gives_an_example() {
    let world = World::new();
    for command in ["ingest", "info", "verify", "export", "preview", "bench", "plan-layout", "demo"]
    {
        let help = world.ok(&format!("{command} --help")).out;
        assert!(help.contains("Usage: voxquarry"), "{help}");
        assert!(help.to_lowercase().contains("example"), "{help}");
        let all = world.ok("--help").out;
        assert!(all.contains(&format!("\n  {command} ")), "{all}");
    }
    let all = world.ok("--help").out;
    assert!(all.contains("Examples:") && all.contains("Exit codes: 0 done; 2"), "{all}");
    let version = world.ok("--version").out;
    assert_eq!(version, format!("voxquarry {}\n", env!("CARGO_PKG_VERSION")));
}
