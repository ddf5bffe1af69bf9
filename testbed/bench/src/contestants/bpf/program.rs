// SPDX-License-Identifier: MIT OR Apache-2.0

//! The producer's program, instruction by instruction: reserve room in the ring, fill in the record,
//! submit it, count it.
//!
//! The encoding is that of the BPF instruction set (RFC 9669); the helpers' numbers are those of
//! linux/bpf.h.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::record::{Message, STAMP};

/// When the consumer is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notify {
    /// The kernel decides: when the consumer has caught up.
    Adaptive,
    Never,
    /// When that many bytes are waiting.
    At(i32),
}

/// One instruction, as the kernel reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    /// The destination in the lower half, the source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// What a program is made for.
pub(super) struct Source<'a> {
    pub(super) ring: BorrowedFd<'a>,
    pub(super) counters: BorrowedFd<'a>,
    /// Where in its element of the array its counter is.
    pub(super) counter: usize,
    pub(super) producer: usize,
    pub(super) len: usize,
    pub(super) notify: Notify,
    pub(super) timed: bool,
}

const LD_IMM_DW: u8 = 0x18;
const LDX_DW: u8 = 0x79;
const STX_DW: u8 = 0x7b;
const ADD_K: u8 = 0x07;
const MUL_X: u8 = 0x2f;
const OR_X: u8 = 0x4f;
const MOV_K: u8 = 0xb7;
const MOV_X: u8 = 0xbf;
const JEQ_K: u8 = 0x15;
const JGE_K: u8 = 0x35;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// What the immediate of LD_IMM_DW stands for.
const A_NUMBER: u8 = 0;
const A_MAP: u8 = 1;
const A_VALUE_OF_A_MAP: u8 = 2;

const KTIME_GET_NS: i32 = 5;
const RINGBUF_RESERVE: i32 = 131;
const RINGBUF_SUBMIT: i32 = 132;
const RINGBUF_QUERY: i32 = 134;

const NO_WAKEUP: i32 = 1;
const FORCE_WAKEUP: i32 = 2;
const AVAILABLE_DATA: i32 = 0;

/// Where what is: the counter's address, the flags of the submit, the number or first word, the stamp.
const COUNTER: u8 = 6;
const FLAGS: u8 = 7;
const FIRST: u8 = 8;
const OTHERS: u8 = 9;

impl Source<'_> {
    pub(super) fn assemble(&self) -> Vec<Instruction> {
        let mut code = Vec::new();
        let counter = self.counter as i32;
        wide(
            &mut code,
            COUNTER,
            A_VALUE_OF_A_MAP,
            self.counters.as_raw_fd(),
            counter,
        );
        self.flags(&mut code);
        if self.timed {
            code.push(op(CALL, 0, 0, 0, KTIME_GET_NS));
            code.push(op(MOV_X, OTHERS, 0, 0, 0));
        }
        wide(&mut code, 1, A_MAP, self.ring.as_raw_fd(), 0);
        code.push(op(MOV_K, 2, 0, 0, self.len as i32));
        code.push(op(MOV_K, 3, 0, 0, 0));
        code.push(op(CALL, 0, 0, 0, RINGBUF_RESERVE));
        let filling = self.filling();
        // No room: straight to the end.
        code.push(op(JEQ_K, 0, 0, filling.len() as i16, 0));
        code.extend(filling);
        code.push(op(MOV_K, 0, 0, 0, 0));
        code.push(op(EXIT, 0, 0, 0, 0));
        code
    }

    /// The flags of the submit.
    fn flags(&self, code: &mut Vec<Instruction>) {
        let fixed = match self.notify {
            Notify::Adaptive => 0,
            Notify::Never | Notify::At(_) => NO_WAKEUP,
        };
        if let Notify::At(bytes) = self.notify {
            wide(code, 1, A_MAP, self.ring.as_raw_fd(), 0);
            code.push(op(MOV_K, 2, 0, 0, AVAILABLE_DATA));
            code.push(op(CALL, 0, 0, 0, RINGBUF_QUERY));
            code.push(op(MOV_K, FLAGS, 0, 0, FORCE_WAKEUP));
            code.push(op(JGE_K, 0, 0, 1, bytes));
        }
        code.push(op(MOV_K, FLAGS, 0, 0, fixed));
    }

    /// Fills in the record at register 0 and submits it.
    fn filling(&self) -> Vec<Instruction> {
        let mut code = vec![op(LDX_DW, FIRST, COUNTER, 0, 0)];
        code.push(op(MOV_X, 2, FIRST, 0, 0));
        code.push(op(ADD_K, 2, 0, 0, 1));
        let producer = Message::id(self.producer, 0);
        number(&mut code, 1, producer);
        code.push(op(OR_X, FIRST, 1, 0, 0));
        if !self.timed {
            number(&mut code, OTHERS, STAMP);
            code.push(op(MUL_X, OTHERS, FIRST, 0, 0));
        }
        code.push(op(STX_DW, 0, FIRST, 0, 0));
        for word in 1..self.len / 8 {
            code.push(op(STX_DW, 0, OTHERS, word as i16 * 8, 0));
        }
        code.push(op(STX_DW, COUNTER, 2, 0, 0));
        code.push(op(MOV_X, 1, 0, 0, 0));
        code.push(op(MOV_X, 2, FLAGS, 0, 0));
        code.push(op(CALL, 0, 0, 0, RINGBUF_SUBMIT));
        code
    }
}

fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: source << 4 | destination,
        offset,
        immediate,
    }
}

/// The load of 64 bits takes the room of two instructions.
fn wide(code: &mut Vec<Instruction>, destination: u8, meaning: u8, lower: i32, upper: i32) {
    code.push(op(LD_IMM_DW, destination, meaning, 0, lower));
    code.push(op(0, 0, 0, 0, upper));
}

fn number(code: &mut Vec<Instruction>, destination: u8, value: u64) {
    let (lower, upper) = (value as i32, (value >> 32) as i32);
    wide(code, destination, A_NUMBER, lower, upper);
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn source(notify: Notify, len: usize) -> Vec<Instruction> {
        let file = std::fs::File::open("/dev/null").unwrap();
        let source = Source {
            ring: file.as_fd(),
            counters: file.as_fd(),
            counter: 128,
            producer: 1,
            len,
            notify,
            timed: false,
        };
        source.assemble()
    }

    #[test]
    fn an_instruction_has_eight_bytes() {
        assert_eq!(size_of::<Instruction>(), 8);
        let add = op(ADD_K, 2, 0, 0, 1);
        assert_eq!((add.code, add.registers), (0x07, 0x02));
        assert_eq!(op(STX_DW, 0, 9, 8, 0).registers, 0x90);
    }

    #[test]
    fn each_word_of_the_record_is_stored() {
        let stores = |len| {
            let code = source(Notify::Adaptive, len);
            code.iter().filter(|op| op.code == STX_DW).count()
        };
        // And one for the counter.
        assert_eq!(stores(64), 8 + 1);
        assert_eq!(stores(4096), 512 + 1);
    }

    #[test]
    fn without_room_it_ends() {
        let code = source(Notify::At(1 << 16), 64);
        let at = code.iter().position(|op| op.code == JEQ_K).unwrap();
        let target = at + 1 + code[at].offset as usize;
        assert_eq!((code[target].code, code[target].immediate), (MOV_K, 0));
        assert_eq!(code.last().unwrap().code, EXIT);
    }
}
