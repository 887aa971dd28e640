"""Fault schedules: the real coordinator and real sites under one simulated clock, network and disk (ADR 0050)."""
