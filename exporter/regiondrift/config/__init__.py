"""What is configured? YAML text to frozen options, with every mistake named by line and column."""

from regiondrift.config.document import Configuration, load
from regiondrift.config.problem import ConfigurationError, Problem
from regiondrift.config.schema import schema

__all__ = ["Configuration", "ConfigurationError", "Problem", "load", "schema"]
