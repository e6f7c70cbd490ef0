//! What a check has to say: lines of the policy, and findings, for people and as JSON.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

/// What was said, in the order of saying.
#[derive(Debug, Default)]
pub(super) struct Notes {
    policy: Vec<Line>,
    findings: Vec<Note>,
}

#[derive(Debug)]
struct Line {
    item: String,
    value: String,
    verdict: Verdict,
}

/// What to think of a line of the policy, in the words of testssl.sh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// The operator's choice.
    Info,
}

#[derive(Debug)]
struct Note {
    severity: Severity,
    message: String,
    /// Shows the same.
    command: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Problem,
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
        })
    }
}

impl Notes {
    pub(super) fn line(&mut self, item: &str, value: impl Into<String>, verdict: Verdict) {
        self.policy.push(Line { item: item.to_owned(), value: value.into(), verdict });
    }

    /// Connections fail by it.
    pub(super) fn problem(&mut self, message: impl Into<String>, command: Option<String>) {
        self.findings.push(Note { severity: Severity::Problem, message: message.into(), command });
    }

    /// Connections will fail by it, or may.
    pub(super) fn warning(&mut self, message: impl Into<String>, command: Option<String>) {
        self.findings.push(Note { severity: Severity::Warning, message: message.into(), command });
    }

    pub(super) fn any_problem(&self) -> bool {
        self.findings.iter().any(|note| note.severity == Severity::Problem)
    }

    pub(super) fn print(&self) -> io::Result<()> {
        let mut output = io::stdout();
        for Line { item, value, verdict } in &self.policy {
            let verdict = if *verdict == Verdict::Ok { " (OK)" } else { "" };
            writeln!(output, " {item:<22} {value}{verdict}")?;
        }
        for Note { severity, message, command } in &self.findings {
            writeln!(output, "{severity}: {message}")?;
            if let Some(command) = command {
                writeln!(output, "    see: {command}")?;
            }
        }
        Ok(())
    }

    pub(super) fn print_json(&self) -> io::Result<()> {
        let policy: Vec<_> = self
            .policy
            .iter()
            .map(|line| json!({ "item": line.item, "value": line.value, "ok": line.verdict == Verdict::Ok }))
            .collect();
        let findings: Vec<_> = self
            .findings
            .iter()
            .map(|note| {
                json!({ "severity": note.severity.to_string(), "message": note.message, "command": note.command })
            })
            .collect();
        writeln!(io::stdout(), "{}", json!({ "policy": policy, "findings": findings }))
    }
}

/// `openssl x509` of a file's first certificate.
pub(super) fn x509(file: &Path, what: &str) -> String {
    format!("openssl x509 -noout -subject {what} -in {}", file.display())
}

/// The first certificate's dates beside this host's clock.
pub(super) fn dates(file: &Path) -> String {
    format!("date -u; {}", x509(file, "-dates"))
}

/// Everything that a PEM file holds.
pub(super) fn content(file: &Path) -> String {
    format!("openssl storeutl -noout -text -certs {}", file.display())
}
