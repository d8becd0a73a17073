//! A lock in shared memory that the kernel releases when its holder dies.

use std::{io, mem::MaybeUninit};

use super::mapping::Mapping;

/// A process-shared robust mutex (pthread_mutexattr_setrobust(3)), created before the fork and used by the children.
/// Dropping it only unmaps it in this process: others may still use it.
#[derive(Debug)]
pub struct RobustMutex {
    mutex: Mapping<libc::pthread_mutex_t>,
}

// SAFETY: the pthread functions synchronize all access to the mutex.
unsafe impl Send for RobustMutex {}
// SAFETY: as above.
unsafe impl Sync for RobustMutex {}

fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

impl RobustMutex {
    /// Creates an unlocked mutex.
    pub fn new() -> io::Result<Self> {
        let mutex = Self { mutex: Mapping::anonymous(1)? };
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: attributes are initialized first and destroyed last, and the mutex occupies unused memory of its size
        // and alignment (mmap aligns to pages).
        unsafe {
            check(libc::pthread_mutexattr_init(attributes.as_mut_ptr()))?;
            check(libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED))?;
            check(libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST))?;
            check(libc::pthread_mutex_init(mutex.as_ptr(), attributes.as_ptr()))?;
            check(libc::pthread_mutexattr_destroy(attributes.as_mut_ptr()))?;
        }
        Ok(mutex)
    }

    fn as_ptr(&self) -> *mut libc::pthread_mutex_t {
        self.mutex.elements().as_ptr().cast()
    }

    /// Waits for the lock, which is free once its holder has died.
    pub fn lock(&self) -> io::Result<()> {
        // SAFETY: the mutex was initialized in `new` and lives as long as self.
        self.locked(unsafe { libc::pthread_mutex_lock(self.as_ptr()) }).map(drop)
    }

    /// Takes the lock if it is free or its holder has died.
    pub fn try_lock(&self) -> io::Result<bool> {
        // SAFETY: as above.
        self.locked(unsafe { libc::pthread_mutex_trylock(self.as_ptr()) })
    }

    /// Whether an attempt to take the lock has succeeded.
    fn locked(&self, code: i32) -> io::Result<bool> {
        match code {
            0 => Ok(true),
            libc::EBUSY => Ok(false),
            libc::EOWNERDEAD => {
                // What it guards is as valid after a part of a change as after all of it.
                // SAFETY: as above, and this thread holds it.
                check(unsafe { libc::pthread_mutex_consistent(self.as_ptr()) })?;
                Ok(true)
            }
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Releases the lock, which the calling thread must hold.
    pub fn unlock(&self) -> io::Result<()> {
        // SAFETY: the mutex was initialized in `new`; for robust mutexes, unlocking another thread's lock is an error,
        // not undefined behaviour.
        check(unsafe { libc::pthread_mutex_unlock(self.as_ptr()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_once() {
        let mutex = RobustMutex::new().unwrap();
        assert!(mutex.try_lock().unwrap());
        assert!(!mutex.try_lock().unwrap());
        mutex.unlock().unwrap();
        mutex.lock().unwrap();
        assert!(!mutex.try_lock().unwrap());
        mutex.unlock().unwrap();
        assert!(mutex.try_lock().unwrap());
        mutex.unlock().unwrap();
    }
}
