//! Completions of shells, and manual pages.

use std::fs;
use std::process::Command;

use crate::workspace::Workspace;

/// Every command that `--help` lists, but for `help`.
fn commands(workspace: &Workspace) -> Vec<String> {
    let help = workspace.ok("--help").out;
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(' '));
    let names: Vec<_> =
        names.map(|(name, _)| name.to_owned()).filter(|n| !n.is_empty() && n != "help").collect();
    assert!(names.len() > 14, "{names:?}");
    names
}

/// What bash offers for the last of `words`.
fn bash_offers(workspace: &Workspace, words: &str) -> String {
    let program = "source completions.bash && COMP_WORDS=($1) \
                   && COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) \
                   && function=$(complete -p voxquarry | sed 's/.*-F \\([^ ]*\\).*/\\1/') \
                   && $function voxquarry \"${COMP_WORDS[COMP_CWORD]}\" \
                      \"${COMP_WORDS[COMP_CWORD - 1]}\" && echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-c", program, "bash", words]);
    let output = bash.current_dir(workspace.path(".")).output().unwrap();
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn bash_completes_commands_options_and_values() {
    let workspace = Workspace::new();
    let script = workspace.ok("completions bash").out;
    workspace.write("completions.bash", script.as_bytes());
    let expected = [
        ("voxquarry ver", "verify"),
        ("voxquarry in", "ingest info infer"),
        ("voxquarry ingest --patch", "--patch-size"),
        ("voxquarry preview --convention neuro", "neurological"),
        // Commands of the Python package.
        ("voxquarry infer --patch", "--patch-size"),
        ("voxquarry view --sampler wei", "weighted"),
        ("voxquarry completions f", "fish"),
    ];
    for (words, offered) in expected {
        assert_eq!(bash_offers(&workspace, words), offered, "{words}");
    }
}

#[test]
fn every_shell_has_a_script_that_knows_every_command() {
    let workspace = Workspace::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = workspace.ok(&format!("completions {shell}")).out;
        for word in commands(&workspace).iter().map(String::as_str).chain(["skip-existing"]) {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    workspace.fails("completions tcsh", 2, &["tcsh", "bash", "zsh"]);
}

#[test]
fn every_command_has_a_manual_page() {
    let workspace = Workspace::new();
    for _ in 0..2 {
        workspace.ok("man share/man1");
    }
    let mut expected: Vec<String> =
        commands(&workspace).iter().map(|name| format!("voxquarry-{name}.1")).collect();
    expected.push("voxquarry.1".to_owned());
    expected.sort();
    assert_eq!(workspace.names("share/man1"), expected);
    for name in &expected {
        let page = fs::read_to_string(workspace.path("share/man1").join(name)).unwrap();
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH EXAMPLES"] {
            assert!(page.contains(section), "{name}: no {section}");
        }
    }
    let page = |name: &str| fs::read_to_string(workspace.path("share/man1").join(name)).unwrap();
    assert!(page("voxquarry.1").contains(".SH \"EXIT STATUS\""), "{}", page("voxquarry.1"));
    assert!(page("voxquarry-infer.1").contains("\\-\\-patch\\-size"));
    workspace.write("file", b"");
    workspace.fails("man file/man1", 4, &["file/man1"]);
}
