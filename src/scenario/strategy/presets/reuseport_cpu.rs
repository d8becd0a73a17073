use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-cpu",
    meaning: "The same as `reuseport`, but a classic BPF program picks: worker = receiving processor mod workers.",
    axes: |_| (Queues::PerWorker, Steering::ReceivingCpu, Wake::Epoll(Trigger::Level)),
};
