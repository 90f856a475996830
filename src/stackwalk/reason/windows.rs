//! Exceptions of Windows, and those that runtimes raise on it.

use super::crash::Crash;
use super::{thrown, traps};

pub(super) fn text(crash: &Crash) -> Option<String> {
    const ILLEGAL_INSTRUCTION: u32 = 0xc000_001d;
    const BREAKPOINT: u32 = 0x8000_0003;

    let parameter = |index| crash.parameter(index);
    let text = match crash.code {
        0xc000_0005 => match parameter(0)? {
            0 => "the program read from an address to which it has no access",
            1 => "the program wrote to an address to which it has no access",
            8 => "the program jumped to an address that has no executable code",
            _ => return None,
        },
        0xc000_0006 => "data of a mapped file or of the page file could not be read",
        0xc000_0008 => "a handle is not valid",
        0xc000_0017 => "there is not enough memory",
        ILLEGAL_INSTRUCTION | BREAKPOINT => {
            return traps::text(crash).or_else(|| {
                let text = match crash.code {
                    BREAKPOINT => "a breakpoint in the code: a failed check, or no debugger is there to stop at it",
                    _ => "the CPU does not know the instruction",
                };
                Some(text.to_owned())
            });
        }
        0xc000_0094 => "a division of integers by zero",
        0xc000_00fd => {
            "the stack is full: a recursion that does not end, or a large local variable"
        }
        0xc000_0135 => "a DLL that the program needs was not found",
        0xc000_0138 | 0xc000_0139 => "a function that the program needs is not in its DLL",
        0xc000_0142 => "a DLL could not be initialized",
        0xc000_0374 => {
            "the heap is damaged: something wrote outside of its memory, or freed it twice"
        }
        0xc000_0409 => return parameter(0).and_then(fast_fail).map(str::to_owned),
        0xc000_0417 => "a function of the C library got an invalid argument",
        0xc000_041d => "an exception in a function that Windows called was not handled",
        0xc000_0420 => "an assertion failed",
        0xc000_0602 => "the program stopped itself (RaiseFailFastException)",
        0xc000_027b => "an exception of the Windows Runtime was not handled",
        0x0517_a7ed => "the program asked for the dump; it did not crash",
        0xe06d_7363 => {
            let text = "a C++ exception (Visual C++)";
            return Some(match thrown::msvc(crash) {
                Some(Some(name)) => format!("{text} of type {name}"),
                Some(None) => format!("{text}, thrown again"),
                None => text.to_owned(),
            });
        }
        0xc06d_007e => {
            let text = "a delay-loaded DLL was not found";
            return Some(match thrown::delay_load(crash) {
                Some((dll, _)) => format!("{text}: {dll}"),
                None => text.to_owned(),
            });
        }
        0xc06d_007f => {
            let text = "a function of a delay-loaded DLL was not found";
            return Some(match thrown::delay_load(crash) {
                Some((dll, Some(function))) => format!("{text}: {function} in {dll}"),
                Some((dll, None)) => format!("{text}: {dll}"),
                None => text.to_owned(),
            });
        }
        0x2047_4343 => {
            return Some(match thrown::gcc(crash) {
                Some((language, Some(name))) => {
                    format!("a {language} exception (GCC) of type {name}")
                }
                Some((language, None)) => format!("a {language} exception (GCC)"),
                None => "an exception of a program built with GCC (MinGW)".to_owned(),
            });
        }
        0x2147_4343 => "GCC (MinGW) unwinds the stack for an exception",
        0x2247_4343 => "GCC (MinGW) unwinds the stack because a thread ends",
        0x0eed_fade | 0x0eed_face => {
            let text = "a Delphi exception";
            return Some(match thrown::delphi(crash) {
                Some(class) => format!("{text} of class {class}"),
                None => text.to_owned(),
            });
        }
        0x0eed_fadf => "a Delphi exception, raised again",
        0x0eed_fae0..=0x0eed_fae3 | 0x0eed_fae5 => "Delphi handles an exception",
        0x0eed_fae4 => "an exception of Windows, as Delphi handles it",
        0x0eef_face => "a C++ exception (C++Builder)",
        0xe24c_4a00..=0xe24c_4aff => match crash.code & 0xff {
            2 => "a LuaJIT error: an error while a script ran",
            3 => "a LuaJIT error: a script is not valid",
            4 => "a LuaJIT error: out of memory",
            5 => "a LuaJIT error: an error in the error handler",
            _ => "a LuaJIT error",
        },
        0xe043_4352 => {
            let text = "a .NET exception";
            // The code is in the lower half. It may be sign-extended.
            return Some(match parameter(0).map(|code| code as u32) {
                Some(code) if code >> 31 == 1 => match dotnet(code) {
                    Some(name) => format!("{text}: {name} ({code:#010x})"),
                    None => format!("{text} ({code:#010x})"),
                },
                _ => text.to_owned(),
            });
        }
        0xe043_4f4d => "a .NET exception (.NET Framework before 4.0)",
        0xe000_0008 => {
            return Some(match parameter(0).filter(|bytes| *bytes > 0) {
                Some(bytes) => {
                    format!("out of memory: {bytes} bytes could not be allocated (Chromium)")
                }
                None => "out of memory (Chromium)".to_owned(),
            });
        }
        0xe073_616e | 0xe073_616f => "AddressSanitizer found an error",
        // Unreal Engine. These are not codes of Windows.
        0x4000 => "an assertion (check) failed or a fatal error was logged (Unreal Engine)",
        0x8000 => "the GPU crashed or was removed (Unreal Engine)",
        0xc000 => "out of memory (Unreal Engine)",
        777_008 => "an ensure failed; the program may have gone on (Unreal Engine)",
        _ => return None,
    };
    Some(text.to_owned())
}

/// The meaning of a code that was passed to `__fastfail`.
fn fast_fail(code: u64) -> Option<&'static str> {
    Some(match code & 0xffff_ffff {
        0 | 2 => "a buffer on the stack was overrun (security cookie)",
        1 => "the table of virtual functions of an object is damaged",
        3 => "a list is damaged: something wrote over an element, or it was removed twice",
        4 => "the stack pointer is outside of the stack",
        5 => "a function got an invalid argument that is fatal",
        6 => "the security cookie was not initialized",
        7 => "the program stopped itself: abort, std::terminate or a fatal error of a runtime",
        8 => "an index is out of bounds",
        9 => "unsafe access to the registry",
        10 => "control flow guard: a call to an address that is not the start of a function",
        11 => "control flow guard: a write to protected memory",
        12 => "a switch to an invalid fiber",
        13 => "registers of a thread were set to an invalid value",
        14 => "a reference count is invalid",
        18 => "the buffer of longjmp is damaged",
        19 => "protected read-only data was changed",
        20 => "a certificate is not valid",
        21 => "the chain of exception handlers is damaged",
        22 => "an error in a library for cryptography",
        24 => "the base address of a module is invalid",
        25 => "the protection of delay-loaded functions failed",
        26 => "an unsafe call of an extension",
        27 => "a deprecated service was called",
        28 => "an access outside of a buffer",
        29 => "a tree is damaged",
        31 => "control flow guard: a call to a function that must not be called indirectly",
        35 => "an unexpected exception in the heap",
        36 => "a lock is in an invalid state: released twice, or by the wrong thread",
        37 => "control flow guard: a jump to an address outside of its table",
        38 => "longjmp to an invalid target",
        44 => "the stack is damaged",
        47 | 57 => "the return address is not that of the shadow stack (CET)",
        49 => "the table of imported functions is damaged",
        50 => "the heap is damaged",
        60 => "the list of vectored exception handlers is damaged",
        64 => "control flow guard: a call to a function of the wrong type",
        65 => "a C++ object was cast to a type that it does not have",
        69 => "ntdll was patched in a wrong way",
        71 => "AddressSanitizer found an error",
        72 => "a .NET exception was not handled (Native AOT)",
        73 => "the signature of a return address is wrong (pointer authentication)",
        _ => return None,
    })
}

/// The class of a .NET exception, by its HRESULT. Several classes share some codes; those are left out.
fn dotnet(code: u32) -> Option<&'static str> {
    Some(match code {
        0x8000_4001 => "NotImplementedException",
        0x8000_4002 => "InvalidCastException",
        0x8000_4003 => "NullReferenceException",
        0x8007_0002 => "FileNotFoundException",
        0x8007_0003 => "DirectoryNotFoundException",
        0x8007_0005 => "UnauthorizedAccessException",
        0x8007_000b => "BadImageFormatException",
        0x8007_000e => "OutOfMemoryException",
        0x8002_0012 => "DivideByZeroException",
        0x800703e9 => "StackOverflowException",
        0x8013_1500 => "Exception",
        0x8013_1501 => "SystemException",
        0x8013_1502 => "ArgumentOutOfRangeException",
        0x8013_1503 => "ArrayTypeMismatchException",
        0x8013_1505 => "TimeoutException",
        0x8013_1506 => "ExecutionEngineException",
        0x8013_1508 => "IndexOutOfRangeException",
        0x8013_1509 => "InvalidOperationException",
        0x8013_150a => "SecurityException",
        0x8013_1511 => "MissingFieldException",
        0x8013_1513 => "MissingMethodException",
        0x8013_1515 => "NotSupportedException",
        0x8013_1516 => "OverflowException",
        0x8013_1522 => "TypeLoadException",
        0x8013_1523 => "EntryPointNotFoundException",
        0x8013_1524 => "DllNotFoundException",
        0x8013_1534 => "TypeInitializationException",
        0x8013_1537 => "FormatException",
        0x8013_153b => "OperationCanceledException",
        0x8013_1577 => "KeyNotFoundException",
        0x8013_1604 => "TargetInvocationException",
        0x8013_1620 => "IOException",
        0x8013_1622 => "ObjectDisposedException",
        0x8013_1623 => "Environment.FailFast",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use minidump::system_info::{Cpu, Os};

    use super::super::tests::{Pieces, said};

    #[test]
    fn codes_of_runtimes_are_explained() {
        for (code, parameters, text) in [
            (
                0xc000_0005_u32,
                vec![8, 0],
                "the program jumped to an address that has no executable code",
            ),
            (
                0xc000_0409,
                vec![7],
                "the program stopped itself: abort, std::terminate or a fatal error of a runtime",
            ),
            (
                0xc000_0409,
                vec![0xffff_ffff_0000_000a],
                "control flow guard: a call to an address that is not the start of a function",
            ),
            (
                0xe000_0008,
                vec![4096],
                "out of memory: 4096 bytes could not be allocated (Chromium)",
            ),
            (0xe000_0008, vec![], "out of memory (Chromium)"),
            (
                0xe24c_4a02,
                vec![],
                "a LuaJIT error: an error while a script ran",
            ),
            (0xe24c_4a77, vec![], "a LuaJIT error"),
            (
                0xe043_4352,
                vec![0xffff_ffff_8000_4003],
                "a .NET exception: NullReferenceException (0x80004003)",
            ),
            (
                0xe043_4352,
                vec![0x8013_9999],
                "a .NET exception (0x80139999)",
            ),
            (0xe043_4352, vec![], "a .NET exception"),
            (
                0x2047_4343,
                vec![],
                "an exception of a program built with GCC (MinGW)",
            ),
            (
                777_008,
                vec![],
                "an ensure failed; the program may have gone on (Unreal Engine)",
            ),
        ] {
            let place = (Os::Windows, Cpu::X86_64);
            let said = said(place, (code, 0), &parameters, &Pieces::default());
            assert_eq!(said.as_deref(), Some(text), "{code:#x}");
        }
        for (code, parameters) in [
            (0xc000_0005, vec![3]),
            (0xc000_0005, vec![]),
            (0xc000_0409, vec![9999]),
            (0x1234, vec![]),
        ] {
            let place = (Os::Windows, Cpu::X86_64);
            assert_eq!(
                said(place, (code, 0), &parameters, &Pieces::default()),
                None
            );
        }
    }
}
