use super::{Preset, Queues, Steering, Trigger, Wake};

pub(super) const PRESET: Preset = Preset {
    name: "reuseport-cpu",
    meaning: "Like `reuseport`, but a classic BPF program chooses: worker = receiving processor mod workers.",
    axes: |_| (Queues::PerWorker, Steering::ReceivingCpu, Wake::Epoll(Trigger::Level)),
};
