"""The words that every other part of the house speaks. Imports nothing of ours."""

from regiondrift.model.channel import Channel, Channels, Follower, Followers
from regiondrift.model.collector import Collector, Kept, Link, Objectives, Plan, Target
from regiondrift.model.failure import Failure, ProbeError, Reason
from regiondrift.model.metric import Kind, Metric, Moment, RefusedValueError, Sample
from regiondrift.model.observation import (
    History,
    Instance,
    LinkState,
    Look,
    Member,
    Members,
    Observation,
    Position,
    ReplicaPosition,
    SourcePosition,
)
from regiondrift.model.options import Conninfo, Duration, EntryOptions, RegionName, Secret, SecretFile, option
from regiondrift.model.replication import State
from regiondrift.model.status import HouseStatus, LinkStatus, ReplicaStatus, TargetStatus

__all__ = [
    "Channel",
    "Channels",
    "Collector",
    "Conninfo",
    "Duration",
    "EntryOptions",
    "Failure",
    "Follower",
    "Followers",
    "History",
    "HouseStatus",
    "Instance",
    "Kept",
    "Kind",
    "Link",
    "LinkState",
    "LinkStatus",
    "Look",
    "Member",
    "Members",
    "Metric",
    "Moment",
    "Objectives",
    "Observation",
    "Plan",
    "Position",
    "ProbeError",
    "Reason",
    "RefusedValueError",
    "RegionName",
    "ReplicaPosition",
    "ReplicaStatus",
    "Sample",
    "Secret",
    "SecretFile",
    "SourcePosition",
    "State",
    "Target",
    "TargetStatus",
    "option",
]
