"""Engines that turn branch requests into finished branches."""
