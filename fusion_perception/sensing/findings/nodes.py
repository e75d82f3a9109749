"""Say what is wrong with a node itself: its state, its time, and who else does its work."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_perception.sensing.findings.facts import Facts
from fusion_perception.sensing.findings.finding import Finding


def of_node(facts: Facts) -> list[Finding]:
    """Return what is wrong with a node, nothing for a recording."""
    return [*_of_state(facts), *_of_clock(facts), *_of_others(facts)]


def _of_state(facts: Facts) -> Iterator[Finding]:
    if facts.lifecycle == 'unconfigured' and facts.fault:
        yield Finding(
            'ERROR',
            'The node could not be configured',
            facts.fault.rstrip('.'),
            'Start it again with that corrected; or correct it with `ros2 param set`, then `ros2 '
            'lifecycle set NODE configure` and `... activate`.',
        )
    elif facts.lifecycle == 'finalized':
        yield Finding(
            'WARN',
            'The node is finalized',
            'it was shut down through its lifecycle',
            'Start it again: no transition leads back.',
        )
    elif facts.lifecycle not in ('', 'active'):
        steps = 'activate' if facts.lifecycle == 'inactive' else 'configure` and `... activate'
        yield Finding(
            'WARN',
            f'The node is {facts.lifecycle}',
            'only an active node predicts',
            f'`ros2 lifecycle set NODE {steps}`, or start it with autostart:=true.',
        )
    elif not facts.enabled:
        yield Finding(
            'WARN',
            'The node is disabled',
            '~/enable was called with false',
            "`ros2 service call NODE/enable std_srvs/srv/SetBool '{data: true}'`, or start it "
            'again.',
        )


def _of_clock(facts: Facts) -> Iterator[Finding]:
    if facts.simulated and facts.clock_publishers > 1:
        yield Finding(
            'WARN',
            f'{facts.clock_publishers} publish on /clock',
            'the time jumps between theirs, and each jump back begins pairing anew',
            'Stop all but one (`ros2 topic info -v /clock` names them).',
        )
    if not facts.waits_for_clock:
        return
    if facts.clock_publishers:
        yield Finding(
            'ERROR',
            'The time stands still',
            'use_sim_time is set, and what publishes on /clock is paused or sends zero',
            'Let the simulator or the bag run on.',
        )
    else:
        yield Finding(
            'ERROR',
            'The node has no time',
            'use_sim_time is set and nobody publishes on /clock',
            'Play the bag with its clock (`ros2 bag play --clock`, or `fusion replay`), start the '
            'simulator, or set use_sim_time to false.',
        )


def _of_others(facts: Facts) -> Iterator[Finding]:
    if facts.namesakes:
        yield Finding(
            'WARN',
            f'{facts.namesakes + 1} nodes are called {facts.name}',
            'their services, diagnostics and outputs cannot be told apart',
            'End all but one, or start them in namespaces of their own (`-r __ns:=/left`).',
        )
    if facts.rivals:
        verb = 'publishes' if len(facts.rivals) == 1 else 'publish'
        yield Finding(
            'WARN',
            f'{", ".join(facts.rivals)} {verb} on {facts.output} as well',
            'a recording is played with the predictions in it, or outputs are remapped to one '
            'topic: whoever listens hears both by turns',
            'Play no more of a recording than the sensors (`--topics`), or remap one of the two.',
        )
