"""The Responses API: create, stream, get, delete, cancel, input items."""

from fastapi import APIRouter

router = APIRouter()
