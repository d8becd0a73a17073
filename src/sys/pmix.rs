//! PMIx, the interface of launchers to the processes that they start, in its library libpmix.so.2: loaded when it is needed, since most
//! machines have none. Structures and numbers are those of the PMIx standard, version 4.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    mem, ptr,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use thiserror::Error;

/// The library's name since version 2 of PMIx.
pub const LIBRARY: &str = "libpmix.so.2";
/// Where the library comes from.
pub const REMEDY: &str =
    "install it (Debian and Ubuntu: libpmix2; Fedora: pmix), or name its folder in LD_LIBRARY_PATH";

/// What a process learns of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduced {
    pub rank: u32,
    /// Number of processes in the job.
    pub size: u32,
    /// What rank 0 gave.
    pub card: String,
}

/// Why the job stays unknown.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{LIBRARY} cannot be loaded: {0}: {REMEDY}")]
    Library(String),
    #[error(
        "this listenbench is linked statically and cannot load {LIBRARY}: use one that is not, as `cargo build --release` makes it \
         without --target"
    )]
    Static,
    #[error("{0}: if its launcher has ended, unset PMIX_NAMESPACE to run on this host alone")]
    Unreachable(Box<Error>),
    /// A function of the library failed.
    #[error("{function}: {words} ({code})")]
    Call { function: &'static str, words: String, code: c_int },
    #[error("PMIx_Get of {0} gave nothing that can be read")]
    Type(&'static str),
}

/// Whether the library can be loaded, without calling it. What it starts or changes stays in the process: call this in a child.
pub fn try_out() -> Result<(), Error> {
    load().map(mem::forget)
}

/// Introduces this process to its job: every process of it must call this, once; it returns when all have. PMIx starts threads, so this
/// is for a child that ends soon afterwards.
pub fn introduce(card: &str) -> Result<Introduced, Error> {
    let pmix = Pmix::load()?;
    let me = pmix.initialize()?;
    let size = pmix.size(&me)?;
    let card = if size > 1 { pmix.exchange(&me, card)? } else { card.to_owned() };
    pmix.finalize()?;
    Ok(Introduced { rank: me.rank, size, card })
}

/// PMIX_MAX_NSLEN, PMIX_MAX_KEYLEN, each with the NUL at the end.
const NAMESPACE_BYTES: usize = 256;
const KEY_BYTES: usize = 512;
/// PMIX_SUCCESS
const SUCCESS: c_int = 0;
/// PMIX_GLOBAL: for processes of this host and of others.
const GLOBAL: u8 = 3;
/// PMIX_RANK_WILDCARD: the job itself.
const JOB: u32 = u32::MAX - 1;
/// Types of values: PMIX_BOOL, PMIX_STRING, PMIX_UINT32.
const BOOL: u16 = 1;
const STRING: u16 = 3;
const UINT32: u16 = 14;
/// PMIX_COLLECT_DATA: a fence brings what all have put.
const COLLECT: &CStr = c"pmix.collect";
/// PMIX_JOB_SIZE
const SIZE: &CStr = c"pmix.job.size";
const CARD: &CStr = c"listenbench.card";

/// `pmix_proc_t`
#[repr(C)]
#[derive(Clone)]
struct Process {
    namespace: [c_char; NAMESPACE_BYTES],
    rank: u32,
}

/// `pmix_value_t`
#[repr(C)]
struct Value {
    kind: u16,
    data: Data,
}

/// The union of `pmix_value_t`, whose longest member is two pointers and a character (`pmix_envar_t`).
#[repr(C)]
union Data {
    flag: bool,
    string: *const c_char,
    uint32: u32,
    longest: [*const c_void; 3],
}

/// `pmix_info_t`
#[repr(C)]
struct Info {
    key: [c_char; KEY_BYTES],
    flags: u32,
    value: Value,
}

type Initialize = unsafe extern "C" fn(*mut Process, *mut Info, usize) -> c_int;
type Put = unsafe extern "C" fn(u8, *const c_char, *mut Value) -> c_int;
type Commit = unsafe extern "C" fn() -> c_int;
type Fence = unsafe extern "C" fn(*const Process, usize, *const Info, usize) -> c_int;
type Get = unsafe extern "C" fn(*const Process, *const c_char, *const Info, usize, *mut *mut Value) -> c_int;
type Finalize = unsafe extern "C" fn(*const Info, usize) -> c_int;
type Words = unsafe extern "C" fn(c_int) -> *const c_char;

/// The functions of the library. It is never unloaded: its threads run its code.
struct Pmix {
    initialize: Initialize,
    put: Put,
    commit: Commit,
    fence: Fence,
    get: Get,
    finalize: Finalize,
    words: Words,
}

fn load() -> Result<Library, Error> {
    if cfg!(target_feature = "crt-static") {
        return Err(Error::Static);
    }
    // Its plugins look for its functions among those of the whole process.
    // SAFETY: the library's constructors may run in this process, which is the caller's to give.
    unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| Error::Library(words_of(&error)))
}

/// What dlopen(3) or dlsym(3) said.
fn words_of(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

impl Pmix {
    fn load() -> Result<Self, Error> {
        let library = load()?;
        let missing = |error: libloading::Error| Error::Library(words_of(&error));
        // SAFETY: each type is that of the function in the PMIx standard.
        let pmix = unsafe {
            Self {
                initialize: *library.get(c"PMIx_Init".to_bytes_with_nul()).map_err(missing)?,
                put: *library.get(c"PMIx_Put".to_bytes_with_nul()).map_err(missing)?,
                commit: *library.get(c"PMIx_Commit".to_bytes_with_nul()).map_err(missing)?,
                fence: *library.get(c"PMIx_Fence".to_bytes_with_nul()).map_err(missing)?,
                get: *library.get(c"PMIx_Get".to_bytes_with_nul()).map_err(missing)?,
                finalize: *library.get(c"PMIx_Finalize".to_bytes_with_nul()).map_err(missing)?,
                words: *library.get(c"PMIx_Error_string".to_bytes_with_nul()).map_err(missing)?,
            }
        };
        mem::forget(library);
        Ok(pmix)
    }

    /// Connects to the launcher's daemon on this host, which says who this process is.
    fn initialize(&self) -> Result<Process, Error> {
        let mut me = Process { namespace: [0; NAMESPACE_BYTES], rank: 0 };
        // SAFETY: the library fills in one `Process`, and is given no information.
        let initialized = self.check("PMIx_Init", unsafe { (self.initialize)(&raw mut me, ptr::null_mut(), 0) });
        initialized.map_err(|error| Error::Unreachable(error.into()))?;
        Ok(me)
    }

    /// Number of processes in the job.
    fn size(&self, me: &Process) -> Result<u32, Error> {
        self.get(&Process { rank: JOB, ..me.clone() }, SIZE, |value| {
            // SAFETY: all bytes of a value are set, and any of them make a number.
            (value.kind == UINT32).then_some(unsafe { value.data.uint32 })
        })
    }

    /// Gives a card, waits for all of the job, and returns the card of rank 0.
    fn exchange(&self, me: &Process, card: &str) -> Result<String, Error> {
        let card = CString::new(card).expect("a card is JSON, which escapes NUL");
        let mut value = Value { kind: STRING, data: Data { string: card.as_ptr() } };
        // SAFETY: the library copies the key and the value, which live until it returns.
        self.check("PMIx_Put", unsafe { (self.put)(GLOBAL, CARD.as_ptr(), &raw mut value) })?;
        // SAFETY: the function takes nothing.
        self.check("PMIx_Commit", unsafe { (self.commit)() })?;
        let mut collect = Info {
            key: [0; KEY_BYTES],
            flags: 0,
            value: Value { kind: BOOL, data: Data { longest: [ptr::null(); 3] } },
        };
        collect.value.data.flag = true;
        for (to, from) in collect.key.iter_mut().zip(COLLECT.to_bytes()) {
            *to = *from as c_char;
        }
        // SAFETY: without a list of processes, all of the job are meant; the library reads one `Info`, which lives until it returns.
        self.check("PMIx_Fence", unsafe { (self.fence)(ptr::null(), 0, &raw const collect, 1) })?;
        self.get(&Process { rank: 0, ..me.clone() }, CARD, |value| {
            if value.kind != STRING {
                return None;
            }
            // SAFETY: a value of this type holds this member.
            let string = Some(unsafe { value.data.string }).filter(|string| !string.is_null())?;
            // SAFETY: the text ends with a NUL, and nobody changes or frees it.
            Some(unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned())
        })
    }

    /// Reads a value of a process or of the job.
    fn get<T>(&self, of: &Process, key: &'static CStr, read: impl FnOnce(&Value) -> Option<T>) -> Result<T, Error> {
        let mut value: *mut Value = ptr::null_mut();
        // SAFETY: the library stores a pointer to a value of its own, which is left to it; process and key live until it returns.
        self.check("PMIx_Get", unsafe { (self.get)(of, key.as_ptr(), ptr::null(), 0, &raw mut value) })?;
        // SAFETY: after success the pointer is to a value that nobody changes or frees.
        let value = unsafe { value.as_ref() };
        value.and_then(read).ok_or(Error::Type(key.to_str().unwrap_or("a key")))
    }

    /// Takes leave of the daemon, which would take an end without it for a failure.
    fn finalize(&self) -> Result<(), Error> {
        // SAFETY: the library is given no information.
        self.check("PMIx_Finalize", unsafe { (self.finalize)(ptr::null(), 0) })
    }

    fn check(&self, function: &'static str, code: c_int) -> Result<(), Error> {
        if code == SUCCESS {
            return Ok(());
        }
        // SAFETY: the library returns a static text for every code.
        let words = unsafe { (self.words)(code) };
        let words = if words.is_null() {
            "unknown error".into()
        } else {
            // SAFETY: the text ends with a NUL, and nobody changes or frees it.
            unsafe { CStr::from_ptr(words) }.to_string_lossy()
        };
        Err(Error::Call { function, words: words.into_owned(), code })
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn structures_have_the_standards_layout() {
        assert_eq!((size_of::<Process>(), offset_of!(Process, rank)), (260, 256));
        assert_eq!((size_of::<Value>(), offset_of!(Value, data)), (32, 8));
        assert_eq!((size_of::<Info>(), offset_of!(Info, flags), offset_of!(Info, value)), (552, 512, 520));
    }

    #[test]
    fn a_missing_library_is_named_with_its_package() {
        let error = Error::Library("libpmix.so.2: cannot open shared object file".to_owned()).to_string();
        assert!(error.contains(LIBRARY) && error.contains("libpmix2"), "{error}");
    }

    #[test]
    fn an_environment_left_by_a_launcher_has_a_way_out() {
        let call = Error::Call { function: "PMIx_Init", words: "UNREACHABLE".to_owned(), code: -25 };
        let error = Error::Unreachable(call.into()).to_string();
        assert!(
            error.starts_with("PMIx_Init: UNREACHABLE (-25): ") && error.contains("unset PMIX_NAMESPACE"),
            "{error}"
        );
    }
}
