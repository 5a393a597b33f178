"""Chat completions that were stored: list, get, update, delete, messages."""

from fastapi import APIRouter

router = APIRouter()
