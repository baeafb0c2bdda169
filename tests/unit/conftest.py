"""How hypothesis runs here."""

from hypothesis import HealthCheck, settings

# A machine that is busy with builds and engines is slow, which is no defect of what is tested.
settings.register_profile("doogie", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("doogie")
