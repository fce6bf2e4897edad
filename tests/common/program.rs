//! The real `waymark-dp`, in a process of its own.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// The program, running on this data.
pub struct Program {
    child: Child,
    pub url: String,
    pub log_url: String,
    /// Where it tells its health, if it does.
    pub operations: Option<String>,
}

impl Program {
    pub fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waymark-dp"));
        command.args(["run", "--dir"]).arg(dir);
        Self::start_as(command)
    }

    /// The same by another command.
    pub fn start_as(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut said, mut operations) = (String::new(), None);
        let line = loop {
            let line = lines.next().unwrap_or_else(|| panic!("the DP did not start: {said}")).unwrap();
            if line.contains(" listening on ") {
                break line;
            }
            operations = line.strip_prefix("health and metrics at ").map(str::to_owned).or(operations);
            said += &line;
        };
        // Keeps reading, so that the program never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        let after = |what: &str| line.split(what).nth(1).unwrap().split([',', ' ']).next().unwrap().to_owned();
        Self { url: after("listening on "), log_url: after("log at "), operations, child }
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(mut self) -> Option<i32> {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    /// Nothing is left running when a test fails.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
