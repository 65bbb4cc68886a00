"""Errors of the cluster tooling: each message says what is wrong and what to do about it."""


class ClusterError(Exception):
    """Something the tooling cannot do; the text is meant for the person at the keyboard."""

    exit_code = 1


class MissingPrerequisite(ClusterError):
    """A program or a right is missing on this machine; the message has the line that provides it."""

    exit_code = 3


class BuildFailed(ClusterError):
    """A Go or image build failed; the message ends with the tail of its output."""

    exit_code = 4


class StartFailed(ClusterError):
    """A component ended early or did not become ready in time; the message ends with the tail of its log."""

    exit_code = 5
