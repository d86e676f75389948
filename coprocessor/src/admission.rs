//! Who may have a proof checked now: so many at once, so many waiting, so many per address. The rest is told to come back.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This address has too many requests open.
    TooManyOfYours,
    /// Everybody together has.
    Full,
}

/// The door.
#[derive(Debug)]
pub struct Admission {
    workers: Arc<Semaphore>,
    inside: AtomicUsize,
    capacity: usize,
    per_client: usize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// A place in the queue; given back on drop.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Admission {
    /// `workers` proofs are checked at once, `queue` more wait, and one address holds at most `per_client` places.
    #[must_use]
    pub fn new(workers: usize, queue: usize, per_client: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: Arc::new(Semaphore::new(workers)),
            inside: AtomicUsize::new(0),
            capacity: workers.saturating_add(queue),
            per_client,
            clients: Mutex::new(HashMap::new()),
        })
    }

    /// Takes a place in the queue, or says at once why there is none.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn enter(self: &Arc<Self>, client: IpAddr) -> Result<Place, Refusal> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.entry(client).or_insert(0);
        if *open >= self.per_client {
            return Err(Refusal::TooManyOfYours);
        }
        if self.inside.load(Ordering::Relaxed) >= self.capacity {
            if *open == 0 {
                clients.remove(&client);
            }
            return Err(Refusal::Full);
        }
        *open += 1;
        self.inside.fetch_add(1, Ordering::Relaxed);
        Ok(Place { admission: self.clone(), client })
    }
}

impl Place {
    /// Waits for a worker, first come, first served.
    pub async fn worker(&self) -> Option<OwnedSemaphorePermit> {
        self.admission.workers.clone().acquire_owned().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.admission.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = clients.get_mut(&self.client) {
            *open -= 1;
            if *open == 0 {
                clients.remove(&self.client);
            }
        }
        self.admission.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    #[tokio::test]
    async fn places_are_bounded_and_come_back() {
        let admission = Admission::new(1, 2, 2);
        let first = admission.enter(ip(1)).unwrap();
        let second = admission.enter(ip(1)).unwrap();
        assert_eq!(admission.enter(ip(1)).unwrap_err(), Refusal::TooManyOfYours);
        let third = admission.enter(ip(2)).unwrap();
        assert_eq!(admission.enter(ip(3)).unwrap_err(), Refusal::Full);
        drop(second);
        let fourth = admission.enter(ip(3)).unwrap();
        let worker = first.worker().await.unwrap();
        assert!(admission.workers.try_acquire().is_err());
        drop(worker);
        drop((first, third, fourth));
        assert!(admission.clients.lock().unwrap().is_empty());
        assert_eq!(admission.inside.load(Ordering::Relaxed), 0);
    }
}
