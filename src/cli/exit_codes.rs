//! The exit codes of every command.

/// An exit code, what it means, and what to do about it.
pub struct ExitCode {
    /// The code.
    pub code: u8,
    /// What it means, as a phrase.
    pub meaning: &'static str,
    /// What to do about it, as a sentence.
    pub remedy: Option<&'static str>,
}

/// All of them.
pub const EXIT_CODES: [ExitCode; 6] = [
    ExitCode { code: 0, meaning: "success", remedy: None },
    ExitCode {
        code: 1,
        meaning: "failure",
        remedy: Some("The message on standard error says what could not be done, where, and what to change."),
    },
    ExitCode {
        code: 2,
        meaning: "wrong usage or scenario",
        remedy: Some("The message on standard error names the option, or the file, line and key, and what is allowed."),
    },
    ExitCode {
        code: 3,
        meaning: "success, but at least one trial is invalid or failed, a record is damaged, doctor or ports found something wrong, or a \
                  condition of compare --fail-if is met",
        remedy: Some(
            "The report names the verdicts of invalid trials, and the errors of failed ones; `listenbench explain VERDICT` has the \
             remedy.",
        ),
    },
    ExitCode {
        code: 4,
        meaning: "a condition of compare --fail-if cannot be decided",
        remedy: Some("`compare` says how many trials or records would decide it."),
    },
    ExitCode {
        code: 130,
        meaning: "interrupted",
        remedy: Some("Trials that had ended are in the record; `listenbench report DIR` shows them."),
    },
];

/// The paragraph of the main help.
pub fn paragraph() -> String {
    let all: Vec<String> =
        EXIT_CODES.iter().map(|ExitCode { code, meaning, .. }| format!("{code} {meaning}")).collect();
    format!("Exit codes: {}.", all.join("; "))
}
