"""Fault schedules: real coordinator and sites on a simulated clock, network and disk (ADR 0050)."""
