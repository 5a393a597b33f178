"""Conversations and their items."""

from fastapi import APIRouter

router = APIRouter()
