"""Saved, copied and exported models are the same models."""

import subprocess
import sys

import keras
import numpy as np
from soft_models import soft_model

from keras_softconv import SoftConv2D


class TestSaving:
    def check_round_trip(self, model, x, path):
        model.layers[0].tie_strength.assign(7.0)
        model.save(path)
        loaded = keras.models.load_model(path)
        np.testing.assert_array_equal(
            model.predict(x, verbose=0), loaded.predict(x, verbose=0)
        )
        assert float(loaded.layers[0].tie_strength) == 7.0
        assert loaded.layers[0].get_config() == model.layers[0].get_config()
        return loaded

    def test_keras_file(self, images, tmp_path):
        x, y = images
        model = soft_model(tie_regularizer=keras.regularizers.L1(0.25))
        model.compile("adam", "mse")
        model.fit(x, y, verbose=0)
        loaded = self.check_round_trip(model, x, tmp_path / "model.keras")
        assert loaded.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)

    def test_explicit_padding_survives(self, images, tmp_path):
        x, _ = images
        layer = SoftConv2D(2, 3, padding=(1, (0, 2)))
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])
        loaded = self.check_round_trip(model, x, tmp_path / "model.keras")
        assert loaded.layers[0].padding == ((1, 1), (0, 2))

    def test_loads_in_a_fresh_process_that_imports_the_package(self, tmp_path):
        path = tmp_path / "model.keras"
        soft_model().save(path)
        program = (
            "import keras, keras_softconv\n"
            f"print(keras.models.load_model({str(path)!r}).layers[0].name)"
        )
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == "soft"


def test_large_layer_exports_a_small_graph(tmp_path):
    # 33.5 million weights; a mask or id array of that size would be 134 MB.
    layer = SoftConv2D(2, 3, padding="same")
    model = keras.Sequential([keras.Input((64, 64, 1)), layer])
    assert layer.deviations.shape.num_elements() > 33e6
    model.export(tmp_path / "export", verbose=False)
    assert (tmp_path / "export" / "saved_model.pb").stat().st_size < 5e6
