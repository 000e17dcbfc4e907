//! How big a program is.

use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, bail};
use aya::programs::Program;

/// Sizes of a loaded program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Instructions that the verifier walked through, over all paths.
    pub verified: u32,
    /// Instructions.
    pub instructions: usize,
    /// Bytes of stack of the function that uses the most.
    pub stack: u32,
}

/// The fields of `struct bpf_prog_info` up to the ones used here.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited: u64,
    xlated: u64,
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// Asks the kernel.
///
/// # Errors
/// The program is not loaded, or the kernel does not say.
pub fn size_of(program: &Program) -> Result<Size> {
    let info = program.info()?;
    let verified = info.verified_instruction_count().context("this kernel counts no verified instructions")?;
    let fd = program.fd()?.as_fd().as_raw_fd();
    let mut first = Info::default();
    ask(fd, &mut first)?;
    let mut code = vec![0u64; first.xlated_len as usize / 8];
    let mut second =
        Info { xlated_len: first.xlated_len, xlated: code.as_mut_ptr().expose_provenance() as u64, ..Info::default() };
    ask(fd, &mut second)?;
    if second.xlated == 0 || code.iter().all(|i| *i == 0) {
        bail!("the kernel does not show the program's instructions");
    }
    Ok(Size { verified, instructions: code.len(), stack: deepest(&code) })
}

fn ask(fd: i32, info: &mut Info) -> Result<()> {
    const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
    let info: *mut Info = info;
    let attr = InfoAttr { fd: fd as u32, len: size_of_val_raw(info), info: info.expose_provenance() as u64 };
    // SAFETY: `attr` and what it points to live through the call, and lengths are those of the types.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &raw const attr,
            core::mem::size_of::<InfoAttr>(),
        )
    };
    if result < 0 {
        Err(std::io::Error::last_os_error()).context("asking for a program's instructions")
    } else {
        Ok(())
    }
}

const fn size_of_val_raw(_: *mut Info) -> u32 {
    core::mem::size_of::<Info>() as u32
}

/// The deepest access below the frame pointer (r10): by loads and stores, and by addresses made of it.
fn deepest(code: &[u64]) -> u32 {
    const FRAME: u8 = 10;
    let mut deepest = 0;
    for (i, word) in code.iter().enumerate() {
        let [op, registers, o0, o1, ..] = word.to_le_bytes();
        let (dst, src, offset) = (registers & 15, registers >> 4, i16::from_le_bytes([o0, o1]));
        let depth = match op & 7 {
            // LDX through src; ST and STX through dst.
            1 if src == FRAME => -i32::from(offset),
            2 | 3 if dst == FRAME => -i32::from(offset),
            // r = r10, then r += imm.
            7 if op == 0xbf && src == FRAME => match code.get(i + 1).map(|next| next.to_le_bytes()) {
                Some([0x07, to, _, _, a, b, c, d]) if to & 15 == dst => -i32::from_le_bytes([a, b, c, d]),
                _ => 0,
            },
            _ => 0,
        };
        deepest = deepest.max(depth);
    }
    deepest.unsigned_abs()
}
