//! Lines for a cell, and what their permits give.

use std::time::Duration;

use portcullis_core::{
    ChangeDirectory, Command, Connector, Limits, Permit, Pipeline, Plan, ProgramName, Redirection,
    RedirectionTarget, Rights, Script, SimpleCommand, Span, Step, ViewPath, Word,
};

const NOWHERE: Span = Span { start: 0, end: 0 };

pub(crate) fn path(text: &str) -> ViewPath {
    ViewPath::parse(text).unwrap()
}

/// A line for a cell, and what its permit gives.
#[derive(Clone)]
pub(crate) struct Line {
    steps: Vec<(Connector, Vec<SimpleCommand>)>,
    /// Steps that are a `cd`, by their place.
    directories: Vec<(usize, String)>,
    pub(crate) limits: Limits,
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) protected: Vec<ViewPath>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) working_directory: ViewPath,
}

impl Line {
    /// A line of one command. Words are separated by blanks.
    pub(crate) fn of(command: &str) -> Self {
        Self {
            steps: vec![(Connector::Always, vec![simple(command)])],
            directories: Vec::new(),
            limits: Limits { grace_period: Duration::from_millis(500), ..Limits::default() },
            stdin: None,
            protected: Vec::new(),
            environment: Vec::new(),
            working_directory: path("/workspace"),
        }
    }

    /// The probe with these words.
    pub(crate) fn probe(words: &str) -> Self {
        Self::of(&format!("confinement-probe {words}"))
    }

    /// System calls by the probe.
    pub(crate) fn calls(words: &str) -> Self {
        Self::probe(&format!("call {words}"))
    }

    /// One more command at the end of the last pipeline.
    pub(crate) fn pipe(mut self, command: &str) -> Self {
        self.steps.last_mut().unwrap().1.push(simple(command));
        self
    }

    /// One more step.
    pub(crate) fn then(mut self, connector: Connector, command: &str) -> Self {
        self.steps.push((connector, vec![simple(command)]));
        self
    }

    /// How many commands it has.
    pub(crate) fn commands(&self) -> usize {
        self.steps.iter().map(|(_, commands)| commands.len()).sum()
    }

    /// `cd`, as one more step.
    pub(crate) fn change_directory(mut self, directory: &str) -> Self {
        self.steps.push((Connector::Always, Vec::new()));
        self.directories.push((self.steps.len() - 1, directory.to_owned()));
        self
    }

    fn last(&mut self) -> &mut SimpleCommand {
        self.steps.last_mut().unwrap().1.last_mut().unwrap()
    }

    /// The last command may write beneath a path.
    pub(crate) fn write(mut self, beneath: &str) -> Self {
        self.last().rights.write.push(path(beneath));
        self
    }

    /// The last command may delete beneath a path.
    pub(crate) fn delete(mut self, beneath: &str) -> Self {
        self.last().rights.delete.push(path(beneath));
        self
    }

    /// The last command may start a program.
    pub(crate) fn execute(mut self, program: &str) -> Self {
        self.last().rights.execute.push(ProgramName::parse(program).unwrap());
        self
    }

    /// The last command may read these paths and nothing else beside what every command may.
    pub(crate) fn reading_only(mut self, paths: &[&str]) -> Self {
        self.last().rights.read = paths.iter().map(|text| path(text)).collect();
        self
    }

    /// One more redirection of the last command.
    pub(crate) fn redirect(mut self, descriptor: u8, target: RedirectionTarget) -> Self {
        self.last().redirections.push(Redirection { descriptor, target, span: NOWHERE });
        self
    }

    /// One more argument of the last command, as it is.
    pub(crate) fn word(mut self, word: Word) -> Self {
        self.last().arguments.push(word);
        self
    }

    pub(crate) fn limit(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    pub(crate) fn permit(self) -> Permit {
        let mut steps: Vec<Step> = Vec::new();
        for (connector, commands) in self.steps {
            let commands = commands.into_iter().map(|command| Command::Simple(Box::new(command))).collect();
            steps.push(Step { connector, pipeline: Pipeline { commands } });
        }
        for (place, directory) in self.directories {
            let change = ChangeDirectory { directory, span: NOWHERE };
            steps.get_mut(place).unwrap().pipeline.commands.push(Command::ChangeDirectory(change));
        }
        Permit::grant(Plan {
            script: Script { steps },
            working_directory: self.working_directory,
            workspace: path("/workspace"),
            environment: self.environment,
            stdin: self.stdin,
            limits: self.limits,
            protected: self.protected,
        })
    }
}

fn simple(command: &str) -> SimpleCommand {
    let mut words = command.split(' ').filter(|word| !word.is_empty());
    SimpleCommand {
        program: ProgramName::parse(words.next().unwrap()).unwrap(),
        arguments: words.map(|word| Word::literal(word, NOWHERE)).collect(),
        assignments: Vec::new(),
        redirections: Vec::new(),
        rights: Rights { read: vec![ViewPath::root()], ..Rights::default() },
        span: NOWHERE,
    }
}
