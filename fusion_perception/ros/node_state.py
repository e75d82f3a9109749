"""Gather what a configured node tells of itself: ages, rates, latencies, findings."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fusion_perception.ros.diagnostics import NodeState, StreamState
from fusion_perception.ros.node_status import camera_values, scan_values
from fusion_perception.ros.pipeline import Pipeline
from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.findings.facts import Facts
from fusion_perception.sensing.ledger import STREAMS, Stream


def state_of(
    pipeline: Pipeline,
    facts: Facts | None,
    topics: Mapping[Stream, str],
    publishers: Mapping[Stream, int],
    active: bool,
    enabled: bool,
) -> NodeState:
    """Return the state of a node with this pipeline. Call it once per second.

    `facts` is None while it does not listen. The mode is 'none' then, as on `~/mode`, and once the
    output is overdue.
    """
    monitor, counters = pipeline.monitor, pipeline.intake.ledger.counters()
    rates, lost_share = monitor.since_last_tick(counters)
    output_age_s, mode, modes = monitor.output()
    last_fault, last_fault_age_s = monitor.last_fault()
    overdue = monitor.overdue(pipeline.settings.pairing.dropout_after_s)
    bundle, apart = pipeline.runtime.bundle, monitor.disagreement()
    silent, times = overdue or not (active and enabled), monitor.times()
    return NodeState(
        lifecycle='active' if active else 'inactive',
        enabled=enabled,
        listening_s=monitor.listening_s(),
        mode='none' if mode is None or silent else mode,
        modes=modes,
        output_age_s=output_age_s,
        output_period_s=monitor.output_period_s(),
        dropout_after_s=pipeline.settings.pairing.dropout_after_s,
        camera_to_lidar_s=pipeline.settings.pairing.camera_to_lidar_s,
        streams={
            stream: StreamState(
                topic=topics[stream],
                publishers=publishers[stream],
                age_s=monitor.age_s(stream),
                period_s=monitor.period_s(stream),
                stamp_age_s=monitor.stamp_age_s(stream),
                rate_hz=rates[stream],
                turns=pipeline.senders[stream].turns,
                **counters[stream],
            )
            for stream in STREAMS
        },
        target_frame=pipeline.settings.target_frame,
        latency_ms=times['latency_ms'],
        pairing_ms=times['pairing_ms'],
        inference_ms=times['inference_ms'],
        publishing_ms=times['publishing_ms'],
        apart_ms=times['apart_ms'],
        lost_share=lost_share,
        last_fault=last_fault,
        last_fault_age_s=last_fault_age_s,
        findings=[] if facts is None else diagnose(facts),
        able=sorted(bundle.model.modes),
        about={
            'bundle': str(bundle.path),
            'model': bundle.manifest.model,
            'device': str(pipeline.runtime.device),
            **memory_values(pipeline.runtime.device),
            'engine': pipeline.runtime.engine,
            'lidar_shape': '{}x{}'.format(*bundle.lidar.shape),
            'max_range': str(bundle.lidar.max_range),
            **({} if facts is None or facts.camera is None else camera_values(facts.camera)),
            **scan_values(pipeline.scan() if facts is None else facts.scan),
            **({} if apart is None else {'disagreement': f'{apart:.2f}'}),
        },
    )


def memory_values(device: torch.device) -> dict[str, str]:
    """Return how much of a GPU's memory PyTorch holds for this process; nothing of a CPU.

    That of ONNX Runtime is its own. Asks no driver: a graph may be being captured meanwhile.
    """
    if device.type != 'cuda':
        return {}
    return {'gpu_memory_mib': f'{torch.cuda.memory_reserved(device) / 2**20:.0f}'}
