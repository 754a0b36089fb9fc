"""Normalizing flows: invertible networks that give exact densities."""

from strays.flows.vector_flow import Couplings, FlowTraining, VectorFlow

__all__ = ["Couplings", "FlowTraining", "VectorFlow"]
