//! The messages between server, launcher and cells: one frame, one message, one bound.
//!
//! Frames travel over sequenced-packet socket pairs, so that each arrives whole or not at all. Whoever
//! receives something that is not a message of the link, or descriptors that do not belong to it, ends it.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use portcullis_core::{Confinement, Ended, Plan, Usage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::sys;

/// The longest frame, in bytes.
pub(crate) const MAX_FRAME_BYTES: usize = 128 * 1024;
/// The longest frame of a cell, in bytes.
pub(crate) const SHORT_FRAME_BYTES: usize = 16 * 1024;

/// From the server to the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToLauncher {
    /// The first and only message.
    Configure {
        /// What the launcher holds everything to.
        config: Config,
        /// Whether the server is the same program as the launcher, so that it may be moved out of the way of our
        /// control groups. By the time that it is asked, it may belong to another user and hide what it is.
        with_server: bool,
    },
}

/// From the launcher to the server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromLauncher {
    /// What earlier lives of the service have left, and what became of it. Once, before any cell.
    Found {
        /// Control groups that were removed.
        removed: Vec<String>,
        /// Control groups that could not be, since something lives in them.
        kept: Vec<String>,
    },
    /// A cell is ready; its link comes as a descriptor.
    Ready {
        /// Its number, which no other cell of this launcher had or will have.
        cell: u64,
        /// What is in force in it.
        confinement: Confinement,
    },
    /// A cell could not be made. It is tried again unless `last`.
    Failed {
        /// Which of the places for cells stays empty.
        slot: u32,
        /// What failed.
        failure: StepError,
        /// Whether the launcher gives up.
        last: bool,
    },
    /// A cell has ended, with every process in it.
    Gone {
        /// Its number.
        cell: u64,
        /// What was counted for its last execution.
        words: LastWords,
    },
}

/// What a control group says of a cell that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastWords {
    /// Processes that the kernel killed for want of memory, in the whole life of the cell, which ends with the first.
    pub(crate) oom_kills: u64,
    /// CPU time of the last execution.
    pub(crate) cpu_time: Duration,
    /// The most memory that the last execution had at once.
    pub(crate) peak_memory_bytes: Option<u64>,
}

/// From the server to a cell.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToCell {
    /// Run this; descriptors: standard output, standard error and, when the flags say so, standard input and the gate.
    Run {
        /// What to run.
        plan: Box<Plan>,
        /// Whether a descriptor is the line's standard input.
        stdin: bool,
        /// Whether the last descriptor is a pipe that is waited at: a byte lets the line go, its end calls it off.
        gated: bool,
    },
    /// End what runs now, if anything does.
    Stop {
        /// What the report is to say.
        ended: Ended,
        /// Whether it gets its grace period.
        gently: bool,
    },
}

/// From a cell to the server: the answer to `Run`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FromCell {
    /// What became of it.
    pub(crate) answer: Answer,
    /// Whether the cell can run another; otherwise it ends, and the launcher makes a new one.
    pub(crate) fit: bool,
}

/// What became of a plan.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Nothing of the line ran.
    Refused(Refused),
    /// It ended, and everything of it is gone.
    Ended {
        /// How.
        ended: Ended,
        /// What it used.
        usage: Usage,
    },
    /// A step failed after a part of the line had run; everything of it is gone.
    Broken(StepError),
}

/// Why nothing of a line ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refused {
    /// A program cannot be run.
    Program {
        /// Its name.
        program: String,
        /// What is wrong.
        problem: String,
    },
    /// A step of the confinement failed.
    Step(StepError),
    /// The plan asks for what cannot be held here.
    Unenforceable(String),
    /// The server did not let it go.
    CalledOff,
}

/// A step of the confinement that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepError {
    /// The step's name.
    pub(crate) step: Cow<'static, str>,
    /// The errno.
    pub(crate) errno: i32,
}

impl StepError {
    /// Names the step that failed.
    pub(crate) fn new(step: impl Into<Cow<'static, str>>, error: &io::Error) -> Self {
        Self { step: step.into(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }

    /// Returns the kernel's answer.
    pub(crate) fn source(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "step `{}` failed: {}", self.step, self.source())
    }
}

/// Names the step in whose course an error came up.
pub(crate) trait AtStep<T> {
    /// Turns an error into a [`StepError`].
    fn at(self, step: impl Into<Cow<'static, str>>) -> Result<T, StepError>;
}

impl<T> AtStep<T> for io::Result<T> {
    fn at(self, step: impl Into<Cow<'static, str>>) -> Result<T, StepError> {
        #[cfg(feature = "fault-injection")]
        let step = {
            let step = step.into();
            if let Some(errno) = crate::faults::asked(&step) {
                return Err(StepError { step, errno });
            }
            step
        };
        self.map_err(|error| StepError::new(step, &error))
    }
}

/// Takes a step that must not have been taken when it is said to have failed: one after which there are two of us.
pub(crate) fn attempt<T>(step: &'static str, take: impl FnOnce() -> io::Result<T>) -> Result<T, StepError> {
    #[cfg(feature = "fault-injection")]
    if let Some(errno) = crate::faults::asked(step) {
        return Err(StepError { step: step.into(), errno });
    }
    take().map_err(|error| StepError::new(step, &error))
}

/// Sends one message.
///
/// # Errors
/// When it is too long (`InvalidInput`), or the link is gone.
pub(crate) fn send(
    link: BorrowedFd<'_>,
    message: &impl Serialize,
    with: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if bytes.len() > MAX_FRAME_BYTES {
        let problem = format!("a frame of {} bytes; the limit is {MAX_FRAME_BYTES}", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    sys::send(link, &bytes, with)
}

/// Receives one message and its descriptors; `None` at the end of the link.
///
/// # Errors
/// When what came is not one message of this link, with nothing behind it.
pub(crate) fn receive<M: DeserializeOwned>(link: &impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    receive_into(link, &mut vec![0_u8; MAX_FRAME_BYTES])
}

/// As [`receive`], for what is never longer than [`SHORT_FRAME_BYTES`]: the answer of a cell.
pub(crate) fn receive_short<M: DeserializeOwned>(link: &impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    receive_into(link, &mut [0_u8; SHORT_FRAME_BYTES])
}

/// As [`receive`], with room of the caller's: `MAX_FRAME_BYTES`, or whatever the message may need.
pub(crate) fn receive_into<M: DeserializeOwned>(
    link: &impl AsFd,
    buffer: &mut [u8],
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let (length, descriptors) = sys::receive(link.as_fd(), buffer)?;
    if length == 0 {
        return Ok(None);
    }
    let message = decode(buffer.get(..length).unwrap_or_default())?;
    Ok(Some((message, descriptors)))
}

/// Reads one message from exactly these bytes.
pub(crate) fn decode<M: DeserializeOwned>(bytes: &[u8]) -> io::Result<M> {
    let problem = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(problem(format!("{} bytes behind a message", rest.len()))),
        Err(error) => Err(problem(format!("not a message: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (one, other) = sys::socket_pair().unwrap();
        let (read, _write) = sys::pipe().unwrap();
        let message = ToCell::Stop { ended: Ended::Exited(3), gently: true };
        send(one.as_fd(), &message, &[read.as_fd()]).unwrap();
        let (received, descriptors) = receive::<ToCell>(&other).unwrap().unwrap();
        assert!(matches!(received, ToCell::Stop { ended: Ended::Exited(3), gently: true }));
        assert_eq!(descriptors.len(), 1);
        drop(one);
        assert!(receive::<ToCell>(&other).unwrap().is_none());
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        assert!(decode::<ToCell>(&[9, 9, 9]).is_err());
        let mut bytes =
            postcard::to_stdvec(&ToCell::Stop { ended: Ended::Exited(0), gently: false }).unwrap();
        bytes.push(0);
        assert!(decode::<ToCell>(&bytes).is_err(), "bytes behind the message");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_of_a_stranger_make_a_frame_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..512),
            place in proptest::num::usize::ANY,
        ) {
            let stop = ToCell::Stop { ended: Ended::Exited(3), gently: true };
            let configure = ToLauncher::Configure { config: Config::default(), with_server: true };
            for valid in [postcard::to_stdvec(&stop).unwrap(), postcard::to_stdvec(&configure).unwrap()] {
                // Nonsense alone, behind a beginning of something valid, and in the midst of it.
                let cut = place % valid.len();
                let mut spoilt = valid.clone();
                for (byte, other) in spoilt.iter_mut().skip(cut).zip(&bytes) {
                    *byte = *other;
                }
                for frame in [bytes.clone(), [&valid[..cut], &bytes].concat(), spoilt] {
                    let _ = decode::<ToCell>(&frame);
                    let _ = decode::<ToLauncher>(&frame);
                    let _ = decode::<FromCell>(&frame);
                    let _ = decode::<FromLauncher>(&frame);
                }
            }
        }
    }

    /// A generator of numbers that is the same everywhere (xorshift64*): a run can be repeated.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn below(&mut self, bound: usize) -> usize {
            usize::try_from(self.next() % (bound.max(1) as u64)).unwrap()
        }
    }

    /// Spoils a frame: bits flipped, bytes replaced by those that matter to varints and lengths, cut, lengthened.
    fn spoil(frame: &mut Vec<u8>, numbers: &mut Numbers) {
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(frame.len());
            match numbers.below(6) {
                0 => frame.truncate(at),
                1 => frame.insert(at, numbers.next().to_le_bytes()[0]),
                2 => frame.extend_from_slice(&numbers.next().to_le_bytes()),
                kind if frame.len() > at => {
                    frame[at] = match kind {
                        3 => frame[at] ^ (1 << numbers.below(8)),
                        4 => [0, 1, 0x7f, 0x80, 0xff][numbers.below(5)],
                        _ => numbers.next().to_le_bytes()[0],
                    };
                }
                _ => {}
            }
        }
    }

    /// Decodes spoilt frames of every kind at every receiver; returns how many were decoded to something.
    fn decode_spoilt_frames(count: u64, seed: u64) -> u64 {
        let failure = || StepError { step: "link".into(), errno: 5 };
        let usage = Usage { cpu_time: std::time::Duration::from_millis(3), ..Usage::default() };
        let confinement = Confinement {
            level: portcullis_core::Level::Full,
            landlock_abi: Some(7),
            cgroup: None,
            weaker: vec!["nothing".into()],
        };
        let valid = [
            postcard::to_stdvec(&ToLauncher::Configure { config: Config::default(), with_server: true }),
            postcard::to_stdvec(&FromLauncher::Found { removed: vec!["/a".into()], kept: Vec::new() }),
            postcard::to_stdvec(&FromLauncher::Ready { cell: 300, confinement }),
            postcard::to_stdvec(&FromLauncher::Failed { slot: 1, failure: failure(), last: true }),
            postcard::to_stdvec(&FromLauncher::Gone { cell: 1 << 40, words: LastWords::default() }),
            postcard::to_stdvec(&ToCell::Stop { ended: Ended::Exited(3), gently: true }),
            postcard::to_stdvec(&FromCell { answer: Answer::Broken(failure()), fit: false }),
            postcard::to_stdvec(&FromCell {
                answer: Answer::Ended { ended: Ended::Signaled(9), usage },
                fit: true,
            }),
            postcard::to_stdvec(&FromCell {
                answer: Answer::Refused(Refused::Unenforceable("x".into())),
                fit: true,
            }),
            postcard::to_stdvec(&(0_u8, 1_u8, "program", [0_u64; 16])),
        ]
        .map(Result::unwrap);
        let mut numbers = Numbers(seed);
        let mut understood = 0;
        for _ in 0..count {
            let mut frame = valid[numbers.below(valid.len())].clone();
            spoil(&mut frame, &mut numbers);
            understood += u64::from(decode::<ToLauncher>(&frame).is_ok());
            understood += u64::from(decode::<FromLauncher>(&frame).is_ok());
            understood += u64::from(decode::<ToCell>(&frame).is_ok());
            understood += u64::from(decode::<FromCell>(&frame).is_ok());
        }
        understood
    }

    /// `PORTCULLIS_FRAMES` says how many, for a long run of a release build: then the seed is a new one and told. See
    /// docs/reliability.md.
    #[test]
    fn spoilt_frames_are_decoded_or_refused() {
        let asked = std::env::var("PORTCULLIS_FRAMES").ok().and_then(|count| count.parse::<u64>().ok());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let (count, seed) = match asked {
            Some(count) => (count, u64::try_from(now & 0xffff_ffff).unwrap() | 1),
            None => (20_000, 1),
        };
        let begun = std::time::Instant::now();
        let understood = decode_spoilt_frames(count, seed);
        println!("seed {seed}: {count} frames, {understood} understood, {:?}", begun.elapsed());
        // Some of them still mean something, else it is noise that is tried.
        assert!(understood > count / 200, "{understood}");
    }

    #[test]
    fn more_descriptors_than_a_message_carries_are_refused() {
        let (one, other) = sys::socket_pair().unwrap();
        let (read, _write) = sys::pipe().unwrap();
        let message = ToCell::Stop { ended: Ended::Exited(3), gently: true };
        let many = [read.as_fd(); sys::MAX_DESCRIPTORS + 1];
        assert_eq!(send(one.as_fd(), &message, &many).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        drop(one);
        assert!(receive::<ToCell>(&other).unwrap().is_none(), "nothing was sent");
    }

    #[test]
    fn a_frame_beyond_the_bound_is_not_sent() {
        let (one, _other) = sys::socket_pair().unwrap();
        let long = "x".repeat(MAX_FRAME_BYTES + 1);
        assert_eq!(send(one.as_fd(), &long, &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
